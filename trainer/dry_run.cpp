#include "trainer/dry_run.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>

#include <torch/torch.h>

#include "comm/transport/nccl_communicator.h"
#include "comm/transport/single_communicator.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/dry_run_start.h"
#include "trainer/errors.h"
#include "trainer/host/backend_choice.h"
#include "trainer/host/device.h"
#include "trainer/host/host_memory.h"
#include "trainer/interference/interference_meter.h"
#include "trainer/memory_need.h"
#include "trainer/named/kept_text.h"
#include "trainer/named/named_things.h"
#include "trainer/named/open_dataset.h"
#include "trainer/stage.h"
#include "trainer/trial.h"
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
        report << "  " << data.name << " " << split
               << ": none; allowed, and nothing is measured on it\n";
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

BackendChoice backend_of(const RunConfig& config, const at::Device& device, int world_size) {
  return choose_backend(
      config.compute,
      {.world_size = world_size, .is_on_gpu = device.is_cuda(), .has_nccl = nccl_is_available()});
}

void report_compute(const RunConfig& config, const at::Device& device, int world_size,
                    std::ostringstream& report) {
  const BackendChoice choice = backend_of(config, device, world_size);
  const char* const names[] = {"no backend", "MPI", "NCCL"};
  report << "compute\n  " << device.str() << ", " << at::get_num_threads()
         << " threads a rank if all ranks are on this machine; " << world_size << " ranks over "
         << names[static_cast<size_t>(choice.backend)] << ", because " << choice.why << "\n";
}

// Token ids of a run that goes on keep their meaning.
void check_texts(const RunConfig& config, NamedThings& things) {
  for (const TextConfig& text : config.texts) {
    const std::string path = kept_text_path(config.directory, text.name);
    if (path.empty()) continue;
    refuse_other_text(path, text.file.empty()
                                ? learn_vocabulary(text, things.image_split(text.data, "train"))
                                : read_vocabulary(brought_text_path(config, text), text));
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

// Of a training process.
struct Memory {
  double earlier = 0;     // models of stages before
  double state = 0;       // weights, codebooks, statistics of this stage
  double parameters = 0;  // what is trained of it
  double average = 0;
  double measures = 0;  // of interference
  int writers = 1;      // of a checkpoint

  double checkpoint() const { return earlier + state + 2 * parameters + average; }
};

void report_stage(const Stage& stage, int world_size, const std::string& precision,
                  std::ostringstream& report) {
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
  report << "\n  objectives";
  for (size_t i = 0; i < config.objectives.size(); ++i) {
    const double slots = stage.plan().expected_slots(static_cast<int64_t>(i));
    report << (i == 0 ? " " : ", ") << config.objectives[i].name << " in " << slots << " of "
           << config.slots() << " micro-batches";
  }
  report << "\n";
}

// Tried: what the program, its data and its activations take. Known: what an optimizer and the copy
// for a checkpoint, made between two steps, add to it. At the end of a stage only weights are kept.
void report_memory(const Memory& memory, const TrialTimes& tried, bool saves_on_the_way,
                   std::ostringstream& report) {
  const double moments = 2 * memory.parameters + memory.average;
  const double whole = memory.checkpoint() / memory.writers;
  const double weights = (memory.earlier + memory.state + memory.average) / memory.writers;
  const double copy = saves_on_the_way ? whole : weights;
  const double training = tried.peak_bytes + tried.more_pictures_bytes + moments;
  const double rest = tried.peak_bytes - tried.activation_bytes - memory.earlier - memory.state -
                      memory.parameters + tried.more_pictures_bytes;
  const double saving = training - tried.activation_bytes + (saves_on_the_way ? copy : 0);
  // While gradients are caught, and then at the update, where weights are kept beside them.
  const double measuring =
      memory.measures == 0
          ? 0
          : training + memory.measures + std::max(0.0, memory.parameters - tried.activation_bytes);
  report << "  memory per rank " << mib(std::max({training, saving, measuring}))
         << " at most: weights and state " << mib(memory.earlier + memory.state) << ", gradients "
         << mib(memory.parameters) << ", optimizer " << mib(2 * memory.parameters) << ", average "
         << mib(memory.average) << ", activations " << mib(tried.activation_bytes)
         << " or the copy while a checkpoint is written " << mib(copy)
         << ", the program and its data " << mib(std::max(0.0, rest));
  if (memory.measures > 0) {
    report << ", measures of interference " << mib(memory.measures + memory.parameters);
  }
  if (!saves_on_the_way) report << " (a stop on the way copies " << mib(whole) << ")";
  report << "; this machine has " << mib(memory_of_this_machine()) << "\n";
}

std::string duration(double seconds) {
  std::array<char, 32> text{};
  if (seconds < 100) {
    std::snprintf(text.data(), text.size(), "%.1f s", seconds);
  } else if (seconds < 6000) {
    std::snprintf(text.data(), text.size(), "%.0f minutes", seconds / 60);
  } else {
    std::snprintf(text.data(), text.size(), "%.1f hours", seconds / 3600);
  }
  return text.data();
}

// Of the steps that are left.
double report_time(const StageConfig& stage, int64_t steps_done, const TrialTimes& times,
                   std::ostringstream& report) {
  const auto steps = static_cast<double>(std::max<int64_t>(0, stage.steps - steps_done));
  const double all = steps > 0 ? times.prepare_s + steps * times.step_s : 0;
  report << "  about " << duration(all) << ": " << duration(times.prepare_s) << " to prepare and "
         << steps << " steps of " << times.step_s << " s\n";
  return all;
}

// Sizes of the models, as far as the stages have been gone through.
class MemoryOfStages {
 public:
  MemoryOfStages(const RunConfig& config, int world_size)
      : writers_(config.checkpoint.shared ? world_size : 1) {}

  Memory of(Stage& stage) {
    const StageConfig& config = stage.config();
    Memory memory;
    for (const auto& [name, bytes] : trained_) {
      if (name != config.trains) memory.earlier += bytes;
    }
    memory.state = bytes_of(stage.state());
    for (const ParameterGroup& group : stage.parameter_groups()) {
      for (const at::Tensor& parameter : group.parameters) {
        memory.parameters += static_cast<double>(parameter.nbytes());
      }
    }
    memory.writers = writers_;
    memory.average = config.ema_decay > 0 ? memory.parameters : 0;
    trained_[config.trains] = memory.state;
    largest_checkpoint_ = std::max(largest_checkpoint_, memory.checkpoint());
    return memory;
  }
  double largest_checkpoint() const { return largest_checkpoint_; }

 private:
  int writers_;
  std::map<std::string, double> trained_;  // bytes of each model's state
  double largest_checkpoint_ = 0;
};

void check_disk(const RunConfig& config, const fs::path& folder, double checkpoint,
                std::ostringstream& report) {
  const double needed = checkpoint * static_cast<double>(config.checkpoint.keep + 1);
  const auto available = static_cast<double>(fs::space(folder).available);
  report << "disk\n  checkpoints up to " << mib(checkpoint) << ", " << config.checkpoint.keep
         << " kept and one being written: " << mib(needed) << " of " << mib(available)
         << " free under " << config.directory << "\n";
  if (available >= needed) return;
  throw ConfigError("run directory " + config.directory + ": " + mib(available) +
                    " free, but checkpoints take up to " + mib(needed) +
                    "; free some, lower checkpoint.keep, or choose another run.directory");
}

}  // namespace

at::Device check_machine(const RunConfig& config, int world_size) {
  const at::Device device = choose_device(config.compute, 0);
  backend_of(config, device, world_size);
  require_memory(config);
  return device;
}

std::string dry_run(const RunConfig& config, int world_size, const RunOptions& options) {
  std::ostringstream report;
  validate_for_world(config, world_size);
  const at::Device device = check_machine(config, world_size);
  use_threads(config.compute, world_size);
  keep_heap_in_huge_pages(world_size);  // as a training does, so that memory is tried as it will be
  use_device(device, config.compute.deterministic);
  report_compute(config, device, world_size, report);
  const fs::path folder = writable_ancestor(config.directory);
  check_teachers(config);
  check_data(config, report);
  check_episodes(config, report);

  const auto comm = make_single_communicator();
  const std::optional<LoadedCheckpoint> start = find_dry_start(config, options, *comm, report);
  const RunPosition position =
      start ? read_position_to_train(*start, config, options.extends) : RunPosition{};
  NamedThings things(config, *comm, device, /*for_training=*/false);
  if (start) {
    check_texts(config, things);
    restore_models(*start, things);
  }
  MemoryOfStages memory(config, world_size);
  double seconds = 0;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const StageConfig& stage_config = config.stages[i];
    const bool is_under_way = static_cast<int64_t>(i) == position.stage_index;
    Memory of_stage;
    {
      Stage stage(things, stage_config, /*for_training=*/false);
      of_stage = memory.of(stage);
      of_stage.measures = InterferenceMeter(stage, *comm, config.interference).bytes();
      if (start && is_under_way) restore_objectives(*start, stage);
      report_stage(stage, world_size, resolve_precision(device.type(), stage_config.precision),
                   report);
    }
    int64_t done = is_under_way ? position.stage_step : 0;
    if (static_cast<int64_t>(i) < position.stage_index) done = stage_config.steps;
    const TrialTimes tried = try_stage(things, stage_config, world_size);
    const int64_t every = config.checkpoint.every_steps;
    report_memory(of_stage, tried, every > 0 && every < stage_config.steps, report);
    seconds += report_time(stage_config, done, tried, report);
  }
  check_disk(config, folder, memory.largest_checkpoint(), report);
  report
      << "time\n  about " << duration(seconds)
      << ": an estimate from a few micro-batches of each stage, tried on one rank of this machine "
         "alone; exchange between ranks, checkpoints and evaluations come on top\n"
      << "nothing was trained (dry run)\n";
  return report.str();
}

}  // namespace espalier
