#include "launch/coordinator/job_launcher.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <spdlog/spdlog.h>

namespace espalier {
namespace fs = std::filesystem;

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

int number_in_environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::max(0, std::atoi(text));
}

bool srun_has_pmix(const std::string& srun) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(
      ::popen(("'" + srun + "' --mpi=list 2>&1 </dev/null").c_str(), "re"), ::pclose);
  std::string text;
  char piece[256];
  while (pipe && std::fgets(piece, sizeof(piece), pipe.get()) != nullptr) text += piece;
  return text.find("pmix") != std::string::npos;
}

SlurmView this_allocation(const std::string& srun) {
  SlurmView slurm;
  if (std::getenv("SLURM_JOB_ID") == nullptr) return slurm;
  slurm.nodes = std::max(1, number_in_environment("SLURM_JOB_NUM_NODES"));
  slurm.tasks = number_in_environment("SLURM_NTASKS");
  const char* cpus = std::getenv("SLURM_CPUS_PER_TASK");
  if (cpus != nullptr) slurm.cpus_per_task = cpus;
  // salloc leaves its shell on the login node, where no slurmd has set its name.
  slurm.only_this_host = slurm.nodes == 1 && std::getenv("SLURMD_NODENAME") != nullptr;
  // A batch script has SLURM_PROCID too, but only what srun started has its port.
  slurm.in_step = std::getenv("SLURM_SRUN_COMM_PORT") != nullptr;
  slurm.srun_has_pmix = !srun.empty() && srun_has_pmix(srun);
  return slurm;
}

// Without what a launch left whose launcher was killed. Another user may be in the way: then
// there is no folder of our own.
LaunchRequest with_new_shared_memory(LaunchRequest request) {
  std::string& directory = request.shared_memory_directory;
  std::error_code ignored;
  if (!directory.empty()) fs::remove_all(directory, ignored);
  if (!directory.empty() && ::mkdir(directory.c_str(), 0700) != 0) {
    spdlog::warn("{}: {}; shared memory goes to /dev/shm itself", directory, std::strerror(errno));
    directory.clear();
  }
  return request;
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
  machine.mpirun = find_program("mpirun");
  machine.srun = find_program("srun");
  machine.slurm = this_allocation(machine.srun);
  return machine;
}

int spawn_launcher(const LaunchRequest& request, const MachineView& machine) {
  LaunchCommand command = launch_command(with_new_shared_memory(request), machine);
  spdlog::debug("launching: {}", fmt::join(command.arguments, " "));
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, request.log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  // A launcher that outlives this coordinator must not keep its ports and logs open.
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
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
  const int error =
      posix_spawn(&pid, command.program.c_str(), &files, &attributes,
                  pointers(command.arguments).data(), pointers(command.environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error(command.program + ": " + std::strerror(error));
  return pid;
}

std::string shared_memory_directory(const std::string& run_directory) {
  char name[64];
  std::snprintf(name, sizeof(name), "/dev/shm/espalier-%u-%016zx", ::geteuid(),
                std::hash<std::string>()(run_directory));
  return ::access("/dev/shm", W_OK) == 0 ? name : "";
}

namespace {

// A field of /proc/PID/stat by its number there; "" when there is no such process.
std::string stat_field(int pid, int wanted) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (pid <= 0 || !std::getline(file, text)) return "";
  // The program's name stands in parentheses and may hold anything; the fields start after it.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return "";
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    if (number == wanted) return field;
  }
  return "";
}

}  // namespace

uint64_t process_start_time(int pid) {
  const std::string state = stat_field(pid, 3);
  if (state.empty() || state == "Z" || state == "X") return 0;
  const std::string start = stat_field(pid, 22);
  return start.empty() ? 0 : std::stoull(start);
}

std::vector<int> processes_of_session(int leader) {
  std::vector<int> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/proc", none)) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && stat_field(pid, 6) == std::to_string(leader)) found.push_back(pid);
  }
  return found;
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
