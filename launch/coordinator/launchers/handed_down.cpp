#include "launch/coordinator/launchers/handed_down.h"

#include <algorithm>

namespace espalier {
namespace {

bool is_handed_down(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD",
      "SPDLOG_LEVEL",
      // where an Open MPI that is not in its configured place keeps its parts (.deps/sysroot)
      "PMIX_INSTALL_PREFIX", "PMIX_LIBDIR", "PMIX_PKGLIBDIR", "PMIX_DATADIR", "PMIX_PKGDATADIR"};
  constexpr std::string_view kPrefixes[] = {
      "SLURM_",  // the nodes of the allocation, and how mpirun starts its daemons on them
      "LC_",    "OMP_",      "MKL_",   "GOMP_",  "KMP_",  "DNNL_",     "ONEDNN_",
      "ATEN_",  "OPENBLAS_", "TORCH_", "CUDA_",  "NCCL_", "OMPI_MCA_", "OMPI_ALLOW_RUN_AS_ROOT",
      "OPAL_",  "UCX_",      "FI_",    "HWLOC_", "ASAN_", "UBSAN_",    "TSAN_",
      "LSAN_",  "ESPALIER_"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// A matter of the host itself (TMPDIR may not exist on another), or carried by mpirun anyway.
bool belongs_to_this_host(std::string_view name) {
  constexpr std::string_view kNames[] = {"HOME", "USER", "LOGNAME", "TMPDIR",
                                         "CUDA_VISIBLE_DEVICES"};
  constexpr std::string_view kPrefixes[] = {"SLURM_", "OMPI_"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<std::string> rank_environment(const LaunchRequest& request,
                                          const MachineView& machine) {
  std::vector<std::string> out;
  for (const auto& entry : machine.environment) {
    const std::string name = entry.substr(0, entry.find('='));
    if (is_handed_down(name) && !request.environment.contains(name)) out.push_back(entry);
  }
  for (const auto& [name, value] : request.environment) out.push_back(name + "=" + value);
  return out;
}

std::vector<std::string> names_for_other_hosts(const std::vector<std::string>& environment) {
  std::vector<std::string> names;
  for (const auto& entry : environment) {
    const std::string name = entry.substr(0, entry.find('='));
    if (!belongs_to_this_host(name)) names.push_back(name);
  }
  return names;
}

}  // namespace espalier
