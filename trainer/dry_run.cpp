#include "trainer/dry_run.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <sstream>

#include <torch/torch.h>

#include "comm/transport/nccl_communicator.h"
#include "comm/transport/single_communicator.h"
#include "trainer/errors.h"
#include "trainer/host/backend_choice.h"
#include "trainer/host/device.h"
#include "trainer/memory_need.h"
#include "trainer/named/named_things.h"
#include "trainer/named/open_dataset.h"
#include "trainer/stage.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

std::string mib(double bytes) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f MiB", bytes / (1 << 20));
  return text.data();
}

// The nearest folder that exists: where the run directory is, or will be made.
fs::path writable_ancestor(const std::string& directory) {
  fs::path path = fs::absolute(directory);
  while (!fs::exists(path) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  if (!fs::is_directory(path) || ::access(path.c_str(), W_OK) != 0) {
    throw ConfigError("run directory " + directory + " cannot be written: " + path.string() +
                      " is not a folder that this user may write to; choose another with " +
                      "--set run.directory=…");
  }
  return path;
}

void check_data(const RunConfig& config, std::ostringstream& report) {
  report << "data\n";
  for (const DataConfig& data : config.data) {
    for (const char* split : {"train", "validation", "test"}) {
      if (data.split(split).empty()) {
        report << "  " << data.name << " " << split << ": none\n";
        continue;
      }
      const Dataset dataset = open_dataset(config, data.name, split);
      report << "  " << data.name << " " << split << ": " << dataset.size() << " samples, "
             << dataset.bad().count << " bad, " << mib(static_cast<double>(dataset.size_bytes()))
             << "\n";
    }
  }
}

void check_episodes(const RunConfig& config, std::ostringstream& report) {
  for (const EpisodesConfig& episodes : config.episodes) {
    const EpisodeIndex index = open_episode_index(episodes);
    report << "episodes\n";
    for (const auto& [name, split] : index.splits) {
      report << "  " << episodes.name << " " << name << ": " << split.episodes << " episodes, "
             << split.steps << " steps\n";
    }
  }
}

void check_teachers(const RunConfig& config) {
  for (const TeacherConfig& teacher : config.teachers) {
    if (fs::exists(teacher.weights)) continue;
    throw ConfigError("teacher." + teacher.name + ".weights = \"" + teacher.weights +
                      "\": there is no such file; `./launch/quickstart` prepares it");
  }
}

int64_t numbers_of(const ParameterGroup& group) {
  int64_t count = 0;
  for (const at::Tensor& parameter : group.parameters) count += parameter.numel();
  return count;
}

double bytes_of(const TensorMap& tensors) {
  double bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<double>(tensor.nbytes());
  return bytes;
}

// Of a training process, beside activations.
struct Memory {
  double earlier = 0;     // models of stages before
  double state = 0;       // weights, codebooks, statistics of this stage
  double parameters = 0;  // what is trained of it
  double average = 0;
  int writers = 1;  // of a checkpoint

  double checkpoint() const { return earlier + state + 2 * parameters + average; }
};

void report_stage(const Stage& stage, const Memory& memory, int world_size,
                  const std::string& precision, std::ostringstream& report) {
  const StageConfig& config = stage.config();
  int64_t count = 0;
  for (const ParameterGroup& group : stage.parameter_groups()) count += numbers_of(group);
  report << "stage " << config.name << " (trains " << config.trains << ")\n  " << config.steps
         << " steps of " << config.batch_size << " samples: " << config.slots() / world_size
         << " micro-batches of " << config.micro_batch_size << " on each of " << world_size
         << " ranks, " << precision << "\n  " << count << " parameters";
  for (const ParameterGroup& group : stage.parameter_groups()) {
    report << ", " << group.name << " " << numbers_of(group);
  }
  const double copy = memory.checkpoint() / memory.writers;
  report << "\n  objectives";
  for (size_t i = 0; i < config.objectives.size(); ++i) {
    const double slots = stage.plan().expected_slots(static_cast<int64_t>(i));
    report << (i == 0 ? " " : ", ") << config.objectives[i].name << " in " << slots << " of "
           << config.slots() << " micro-batches";
  }
  report << "\n  memory per rank " << mib(memory.checkpoint() + memory.parameters + copy)
         << " beside activations: weights and state " << mib(memory.earlier + memory.state)
         << ", gradients " << mib(memory.parameters) << ", optimizer " << mib(2 * memory.parameters)
         << ", average " << mib(memory.average) << ", copy while a checkpoint is written "
         << mib(copy) << "\n";
}

}  // namespace

std::string dry_run(const RunConfig& config, int world_size) {
  std::ostringstream report;
  validate_for_world(config, world_size);
  const at::Device device = choose_device(config.compute, 0);
  choose_backend(
      config.compute,
      {.world_size = world_size, .is_on_gpu = device.is_cuda(), .has_nccl = nccl_is_available()});
  require_memory(config);
  const fs::path folder = writable_ancestor(config.directory);
  check_teachers(config);
  check_data(config, report);
  check_episodes(config, report);

  const auto comm = make_single_communicator();
  NamedThings things(config, *comm, device, /*for_training=*/false);
  std::map<std::string, double> trained;  // bytes of each model's state
  double largest_checkpoint = 0;
  for (const StageConfig& stage_config : config.stages) {
    Stage stage(things, stage_config, /*for_training=*/false);
    Memory memory;
    for (const auto& [name, bytes] : trained) {
      if (name != stage_config.trains) memory.earlier += bytes;
    }
    memory.state = bytes_of(stage.state());
    for (const ParameterGroup& group : stage.parameter_groups()) {
      for (const at::Tensor& parameter : group.parameters) {
        memory.parameters += static_cast<double>(parameter.nbytes());
      }
    }
    memory.writers = config.checkpoint.shared ? world_size : 1;
    memory.average = stage_config.ema_decay > 0 ? memory.parameters : 0;
    report_stage(stage, memory, world_size,
                 resolve_precision(things.device().type(), stage_config.precision), report);
    trained[stage_config.trains] = memory.state;
    largest_checkpoint = std::max(largest_checkpoint, memory.checkpoint());
  }

  const double needed = largest_checkpoint * static_cast<double>(config.checkpoint.keep + 1);
  const auto available = static_cast<double>(fs::space(folder).available);
  report << "disk\n  checkpoints up to " << mib(largest_checkpoint) << ", "
         << config.checkpoint.keep << " kept and one being written: " << mib(needed) << " of "
         << mib(available) << " free under " << config.directory << "\n";
  if (available < needed) {
    throw ConfigError("run directory " + config.directory + ": " + mib(available) +
                      " free, but checkpoints take up to " + mib(needed) +
                      "; free some, lower checkpoint.keep, or choose another run.directory");
  }
  report << "nothing was trained (dry run)\n";
  return report.str();
}

}  // namespace espalier
