#include "launch/coordinator/job_launcher.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace espalier {
namespace {

// Hyper-threads share a core, and Open MPI offers one slot for each core.
int count_physical_cores() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::set<std::pair<std::string, std::string>> cores;
  std::string line;
  std::string package;
  while (std::getline(cpuinfo, line)) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    if (line.starts_with("physical id")) package = line.substr(colon + 1);
    if (line.starts_with("core id")) cores.emplace(package, line.substr(colon + 1));
  }
  if (!cores.empty()) return static_cast<int>(cores.size());
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

bool is_handed_down(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD",
      // where an Open MPI that is not in its configured place keeps its parts (.deps/sysroot)
      "PMIX_INSTALL_PREFIX", "PMIX_LIBDIR", "PMIX_PKGLIBDIR", "PMIX_DATADIR", "PMIX_PKGDATADIR"};
  constexpr std::string_view kPrefixes[] = {
      "SLURM_",  // the nodes of the allocation, and how mpirun starts its daemons on them
      "LC_",    "OMP_",      "MKL_",   "GOMP_",  "KMP_",  "DNNL_",     "ONEDNN_",
      "ATEN_",  "OPENBLAS_", "TORCH_", "CUDA_",  "NCCL_", "OMPI_MCA_", "OMPI_ALLOW_RUN_AS_ROOT",
      "OPAL_",  "UCX_",      "FI_",    "HWLOC_", "ASAN_", "UBSAN_",    "TSAN_",
      "LSAN_",  "ESPALIER_"};
  for (const auto known : kNames) {
    if (name == known) return true;
  }
  for (const auto prefix : kPrefixes) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (auto& string : strings) out.push_back(string.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

MachineView this_machine() {
  MachineView machine;
  machine.is_root = ::geteuid() == 0;
  machine.physical_cores = count_physical_cores();
  for (char** entry = environ; *entry != nullptr; ++entry) machine.environment.emplace_back(*entry);
  return machine;
}

std::vector<std::string> mpirun_arguments(const LaunchRequest& request,
                                          const MachineView& machine) {
  std::vector<std::string> out = {"mpirun", "-n", std::to_string(request.ranks)};
  if (machine.is_root) out.push_back("--allow-run-as-root");
  if (request.ranks > machine.physical_cores) out.push_back("--oversubscribe");
  // Open MPI would bind every rank to one core, and two jobs on a machine to the same ones; a rank
  // here runs several threads and is bound by nobody unless --mpirun says otherwise.
  out.insert(out.end(), {"--bind-to", "none"});
  out.insert(out.end(), {"--mca", "orte_tmpdir_base", request.scratch_directory});
  for (const auto& [name, value] : request.environment) out.insert(out.end(), {"-x", name});
  out.insert(out.end(), request.extra_launcher_arguments.begin(),
             request.extra_launcher_arguments.end());
  out.push_back(request.program);
  out.insert(out.end(), request.arguments.begin(), request.arguments.end());
  return out;
}

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

int spawn_launcher(const LaunchRequest& request, const MachineView& machine) {
  const std::string mpirun = find_program("mpirun");
  if (mpirun.empty()) {
    throw std::runtime_error("mpirun is not on PATH; install openmpi-bin or load your MPI module");
  }
  auto arguments = mpirun_arguments(request, machine);
  auto environment = rank_environment(request, machine);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, request.log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, mpirun.c_str(), &files, &attributes,
                                pointers(arguments).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error(mpirun + ": " + std::strerror(error));
  return pid;
}

uint64_t process_start_time(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (pid <= 0 || !std::getline(file, text)) return 0;
  // The program's name stands in parentheses and may hold anything; the fields start after it.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    if (number == 3 && (field == "Z" || field == "X")) return 0;
    if (number == 22) return std::stoull(field);
  }
  return 0;
}

bool is_alive(int pid, uint64_t start_time) {
  return start_time != 0 && process_start_time(pid) == start_time;
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream directories(path == nullptr ? "/usr/bin:/bin" : path);
  std::string directory;
  while (std::getline(directories, directory, ':')) {
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

}  // namespace espalier
