#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include <ATen/Version.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <mpi.h>
#include <nlohmann/json.hpp>

#include "comm/transport/nccl_communicator.h"
#include "launch/commands/commands.h"
#include "launch/coordinator/job_launcher.h"
#include "launch/protocol/failure_class.h"
#include "launch/worker/launcher_detection.h"
#include "models/kernels/cpu_features.h"
#include "trainer/host/cores.h"
#include "trainer/host/peak_flops.h"
#include "trainer/run.h"

namespace espalier {

namespace {

// Facts in the order in which they are printed; one with no name continues the one before.
class Facts {
 public:
  void say(const std::string& what, const std::string& text) { facts_.emplace_back(what, text); }

  void print() const {
    for (const auto& [what, text] : facts_) std::printf("%-14s %s\n", what.c_str(), text.c_str());
  }
  nlohmann::ordered_json as_json() const {
    nlohmann::ordered_json all;
    std::string last;
    for (const auto& [what, text] : facts_) {
      if (!what.empty()) all[last = what] = text;
      if (what.empty()) all[last] = all[last].get<std::string>() + "; " + text;
    }
    return all;
  }

 private:
  std::vector<std::pair<std::string, std::string>> facts_;
};

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

Facts what_will_be_used() {
  Facts facts;
  const bool has_gpu = torch::cuda::is_available();
  if (has_gpu) {
    facts.say("device",
              "cuda, because LibTorch sees a GPU; compute.device = \"cpu\" forces the CPU");
  } else {
    facts.say("device", "cpu, because LibTorch sees no GPU");
  }
  facts.say("communicator",
            std::string("one rank: none. Several: ") +
                (!has_gpu              ? "mpi, because tensors are in host memory"
                 : nccl_is_available() ? "nccl, started through mpi"
                                       : "mpi, through host memory: this build has no NCCL"));
  facts.say("threads", std::to_string(usable_cores()) +
                           " hardware threads are shared by the ranks of a machine; "
                           "compute.threads_per_rank changes it");
  facts.say("precision", has_gpu || kernels::bf16_is_fast()
                             ? "auto = bf16: it is multiplied faster than fp32 here"
                             : "auto = fp32: this CPU multiplies bf16 no faster");
  return facts;
}

Facts what_there_is() {
  Facts facts;
  const MachineView machine = this_machine();
  facts.say("program", program_version());
  facts.say("cpu", cpuinfo_field("model name"));
  facts.say("", std::to_string(machine.physical_cores) + " cores, " +
                    std::to_string(usable_cores()) + " hardware threads that may be used, " +
                    gigabytes(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE)) + " memory");
  facts.say("", cpu_features());
  facts.say("libtorch", std::string(TORCH_VERSION) + ", kernels " + at::get_cpu_capability() +
                            ", oneDNN " + (at::globalContext().hasMKLDNN() ? "yes" : "no") +
                            ", MKL " + (at::globalContext().hasMKL() ? "yes" : "no"));
  const std::string mpirun = find_program("mpirun");
  facts.say("mpi", mpi_version());
  facts.say("mpirun", mpirun.empty()
                          ? "not on PATH: `espalier launch` needs it (install openmpi-bin)"
                          : mpirun);
  const auto gpus = gpu_names();
  facts.say("gpus", gpus.empty() ? "none seen by a driver" : std::to_string(gpus.size()));
  for (const auto& name : gpus) facts.say("", name);
  facts.say("cuda", cuda_state(gpus));
  facts.say("nccl",
            nccl_version().empty()
                ? "not in this build"
                : nccl_version() + (nccl_is_available() ? "" : ", not used: there is no GPU"));
  facts.say("launcher", detect_launcher([](const char* name) { return std::getenv(name); }).why);
  return facts;
}

}  // namespace

int run_doctor(bool as_json) {
  const Facts here = what_there_is(), used = what_will_be_used();
  if (as_json) {
    const nlohmann::ordered_json all = {{"here", here.as_json()}, {"used", used.as_json()}};
    std::printf("%s\n", all.dump(2).c_str());
    return kExitDone;
  }
  here.print();
  std::printf("\nwhat will be used, and why\n");
  used.print();
  return kExitDone;
}

}  // namespace espalier
