#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include <ATen/Version.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <mpi.h>

#include "comm/transport/nccl_communicator.h"
#include "launch/commands/commands.h"
#include "launch/coordinator/job_launcher.h"
#include "launch/protocol/failure_class.h"
#include "launch/worker/launcher_detection.h"
#include "models/kernels/cpu_features.h"
#include "trainer/host/cores.h"
#include "trainer/run.h"

namespace espalier {
namespace fs = std::filesystem;

namespace {

void say(const char* what, const std::string& text) {
  std::printf("%-14s %s\n", what, text.c_str());
}

std::string cpuinfo_field(const std::string& name) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string cpu_features() {
  std::istringstream flags(cpuinfo_field("flags"));
  const std::set<std::string> present{std::istream_iterator<std::string>(flags), {}};
  std::string out;
  for (const char* feature :
       {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"}) {
    out +=
        (out.empty() ? "" : " ") + std::string(feature) + (present.contains(feature) ? "" : ":no");
  }
  return out;
}

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);  // allowed before MPI_Init
  const std::string version(text, static_cast<size_t>(length));
  return version.substr(0, version.find(", package"));
}

std::vector<std::string> gpu_names() {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", none)) {
    std::ifstream file(entry.path() / "information");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Model:"))
        names.push_back(line.substr(line.find_first_not_of(" \t", 6)));
    }
  }
  return names;
}

std::string gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string cuda_state(const std::vector<std::string>& gpus) {
  if (torch::cuda::is_available()) {
    return "usable, " + std::to_string(torch::cuda::device_count()) + " device(s)";
  }
  if (gpus.empty()) return "no NVIDIA driver here, so no GPU can be used";
  return "there is a driver, but LibTorch cannot use it: a build without CUDA, or a driver too old "
         "for it";
}

void say_what_will_be_used() {
  const bool has_gpu = torch::cuda::is_available();
  if (has_gpu) {
    say("device", "cuda, because LibTorch sees a GPU; compute.device = \"cpu\" forces the CPU");
  } else {
    say("device", "cpu, because LibTorch sees no GPU");
  }
  say("communicator",
      std::string("one rank: none. Several: ") +
          (!has_gpu              ? "mpi, because tensors are in host memory"
           : nccl_is_available() ? "nccl, started through mpi"
                                 : "mpi, through host memory: this build has no NCCL"));
  say("threads", std::to_string(usable_cores()) +
                     " hardware threads are shared by the ranks of a machine; "
                     "compute.threads_per_rank changes it");
  say("precision", has_gpu || kernels::bf16_is_fast()
                       ? "auto = bf16: it is multiplied faster than fp32 here"
                       : "auto = fp32: this CPU multiplies bf16 no faster");
}

}  // namespace

int run_doctor() {
  const MachineView machine = this_machine();
  say("program", "espalier " ESPALIER_VERSION);
  say("cpu", cpuinfo_field("model name"));
  say("", std::to_string(machine.physical_cores) + " cores, " + std::to_string(usable_cores()) +
              " hardware threads that may be used, " +
              gigabytes(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE)) + " memory");
  say("", cpu_features());
  say("libtorch", std::string(TORCH_VERSION) + ", kernels " + at::get_cpu_capability() +
                      ", oneDNN " + (at::globalContext().hasMKLDNN() ? "yes" : "no") + ", MKL " +
                      (at::globalContext().hasMKL() ? "yes" : "no"));
  const std::string mpirun = find_program("mpirun");
  say("mpi", mpi_version());
  say("mpirun",
      mpirun.empty() ? "not on PATH: `espalier launch` needs it (install openmpi-bin)" : mpirun);
  const auto gpus = gpu_names();
  say("gpus", gpus.empty() ? "none seen by a driver" : std::to_string(gpus.size()));
  for (const auto& name : gpus) say("", name);
  say("cuda", cuda_state(gpus));
  say("nccl", nccl_version().empty()
                  ? "not in this build"
                  : nccl_version() + (nccl_is_available() ? "" : ", not used: there is no GPU"));
  say("launcher", detect_launcher([](const char* name) { return std::getenv(name); }).why);
  std::printf("\nwhat will be used, and why\n");
  say_what_will_be_used();
  return kExitDone;
}

}  // namespace espalier
