#include "trainer/dry_run.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "data/shards/shard_dataset.h"
#include "trainer/errors.h"

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
  const ShardDatasetOptions options{.skip_bad_samples = config.data.on_bad_sample == "skip"};
  const auto check = [&](const char* split, const std::vector<std::string>& paths) {
    if (paths.empty()) return;
    const ShardDataset dataset(paths, options);
    report << "  " << split << ": " << dataset.size() << " samples, " << dataset.bad().count
           << " bad, " << mib(static_cast<double>(dataset.size_bytes())) << "\n";
  };
  report << "data\n";
  check("train", config.data.train);
  check("validation", config.data.validation);
  check("test", config.data.test);
}

void check_teacher(const RunConfig& config) {
  const std::string& path = config.teacher.weights;
  if (path.empty() || fs::exists(path)) return;
  throw ConfigError("teacher.weights = \"" + path +
                    "\": there is no such file; `./launch/quickstart` prepares it, or set "
                    "teacher.weights=\"\" to train without a teacher");
}

struct StageSize {
  double parameters = 0;  // numbers
  double parameter_bytes = 0;
  double state_bytes = 0;  // parameters, codebooks, statistics
};

StageSize size_of(Stage& stage) {
  StageSize size;
  for (const ParameterGroup& group : stage.parameter_groups()) {
    for (const at::Tensor& parameter : group.parameters) {
      size.parameters += static_cast<double>(parameter.numel());
      size.parameter_bytes += static_cast<double>(parameter.nbytes());
    }
  }
  for (const auto& [name, tensor] : stage.state()) {
    size.state_bytes += static_cast<double>(tensor.nbytes());
  }
  return size;
}

}  // namespace

std::string dry_run(const RunConfig& config, int world_size, const StageFactory& factory) {
  std::ostringstream report;
  validate_for_world(config, world_size);
  const fs::path folder = writable_ancestor(config.directory);
  check_teacher(config);
  check_data(config, report);

  const auto comm = make_single_communicator();
  const at::Device device = choose_device(config.compute, 0);
  std::vector<std::unique_ptr<Stage>> stages;
  double earlier_bytes = 0;
  double largest_checkpoint = 0;
  for (const StageConfig& stage : config.stages) {
    std::vector<Stage*> earlier;
    for (const auto& built : stages) earlier.push_back(built.get());
    stages.push_back(factory({config, stage, device, *comm, std::move(earlier), false}));
    const StageSize size = size_of(*stages.back());
    const double copies = stage.ema_decay > 0 ? 3 : 2;  // two moments, and the average
    const double checkpoint = earlier_bytes + size.state_bytes + copies * size.parameter_bytes;
    const double resident = checkpoint + size.parameter_bytes;  // and the gradients
    report << "stage " << stage.name << " (" << stage.kind << ")\n  " << stage.steps << " steps of "
           << stage.batch_size << " samples: " << stage.slots() / world_size << " micro-batches of "
           << stage.micro_batch_size << " on each of " << world_size << " ranks, "
           << stage.precision << "\n  " << static_cast<int64_t>(size.parameters) << " parameters";
    for (const ParameterGroup& group : stages.back()->parameter_groups()) {
      int64_t count = 0;
      for (const at::Tensor& parameter : group.parameters) count += parameter.numel();
      report << ", " << group.name << " " << count;
    }
    report << "\n  memory per rank " << mib(resident + checkpoint / world_size)
           << " beside activations: weights and state " << mib(earlier_bytes + size.state_bytes)
           << ", gradients " << mib(size.parameter_bytes) << ", optimizer "
           << mib(2 * size.parameter_bytes) << ", average "
           << mib((copies - 2) * size.parameter_bytes) << ", copy while a checkpoint is written "
           << mib(checkpoint / world_size) << "\n";
    earlier_bytes += size.state_bytes;
    largest_checkpoint = std::max(largest_checkpoint, checkpoint);
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
