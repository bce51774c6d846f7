#include "trainer/run.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/host/cores.h"
#include "trainer/record/metrics.h"
#include "trainer/record/run_directory.h"
#include "trainer/update/step_loop.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One call of run_training() on one rank.
class TrainingRun {
 public:
  TrainingRun(const RunConfig& config, Communicator& comm, RunObserver& observer,
              const RunOptions& options)
      : config_(config),
        comm_(comm),
        observer_(observer),
        options_(options),
        device_(choose_device(config.compute, options.local_rank)) {}

  RunOutcome run();

 private:
  bool is_first() const { return comm_.rank() == 0; }
  void open_directory();
  std::optional<LoadedCheckpoint> find_checkpoint();
  void set_aside_newer(const LoadedCheckpoint& checkpoint);
  RunPosition report_start(const std::optional<LoadedCheckpoint>& checkpoint);
  void add_stage(size_t index);
  RunOutcome train_stage(size_t index, RunPosition position,
                         const std::optional<LoadedCheckpoint>& checkpoint);
  void save(const RunPosition& position, const StepLoop* loop);
  void finish_stage(size_t index, StepLoop& loop);
  void evaluate(size_t index, int64_t step, bool is_final);
  bool is_evaluated(size_t index);
  std::string evaluation_path(size_t index) const;
  int64_t steps_before(size_t index) const;
  void event(json event);
  void write_status(const std::string& state);

  const RunConfig& config_;
  Communicator& comm_;
  RunObserver& observer_;
  const RunOptions& options_;
  at::Device device_;
  int generation_ = 1;
  std::unique_ptr<RunDirectory> directory_;
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::vector<std::unique_ptr<Stage>> stages_;
};

RunOutcome TrainingRun::run() {
  observer_.on_phase(Phase::kSetup);
  validate_for_world(config_, comm_.size());
  open_directory();
  checkpointer_ = std::make_unique<Checkpointer>(
      comm_, observer_,
      CheckpointerOptions{RunDirectory::checkpoints(config_.directory), config_.checkpoint.keep,
                          generation_},
      [this](const json& entry) { event(entry); });
  const std::optional<LoadedCheckpoint> checkpoint = find_checkpoint();
  const RunPosition start = report_start(checkpoint);
  write_status("running");

  for (size_t i = 0; i < config_.stages.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    observer_.on_phase(Phase::kSetup);
    add_stage(i);
    if (checkpoint && index <= start.stage_index) {
      restore_stage(*checkpoint, config_.stages[i], *stages_[i]);
    }
    if (index < start.stage_index) continue;
    RunPosition position;
    if (index == start.stage_index) position = start;
    position.stage_index = index;
    if (position.is_complete) {
      if (!is_evaluated(i)) evaluate(i, position.stage_step, /*is_final=*/true);
      continue;
    }
    const bool goes_on = checkpoint && index == start.stage_index;
    if (train_stage(i, position, goes_on ? checkpoint : std::nullopt) == RunOutcome::kStopped) {
      event({{"event", "stopped"}, {"step", checkpointer_->last_step()}});
      write_status("stopped");
      return RunOutcome::kStopped;
    }
  }
  checkpointer_->finish();
  event({{"event", "finished"}, {"step", checkpointer_->last_step()}});
  write_status("finished");
  observer_.on_phase(Phase::kFinished);
  return RunOutcome::kFinished;
}

void TrainingRun::open_directory() {
  const std::string generation = on_rank_0(comm_, [&] {
    directory_ = std::make_unique<RunDirectory>(config_.directory);
    const std::string status = config_.directory + "/run.json";
    int number = options_.generation;
    if (number == 0) {
      number = 1;
      if (fs::exists(status)) {
        const json before = json::parse(read_text_file(status), nullptr, false);
        if (before.is_object()) number = before.value("generation", 0) + 1;
      }
    }
    remove_temporaries(RunDirectory::checkpoints(config_.directory));
    return std::to_string(number);
  });
  generation_ = std::stoi(generation);
}

std::optional<LoadedCheckpoint> TrainingRun::find_checkpoint() {
  const std::string root = RunDirectory::checkpoints(config_.directory);
  const std::string& resume = config_.checkpoint.resume;
  observer_.on_phase(Phase::kLoadCheckpoint);
  std::vector<json> events;  // the log opens when the step to go on from is known
  std::optional<LoadedCheckpoint> found;
  if (resume == "none") {
    on_rank_0(comm_, [&] {
      const auto existing = list_checkpoints(root);
      if (existing.empty()) return std::string();
      throw ConfigError("--resume none: " + config_.directory +
                        " already holds checkpoints up to " + "step " +
                        std::to_string(existing.back().step) +
                        "; choose another run.directory, or --resume auto to go on");
    });
  } else if (resume == "auto") {
    found = load_newest_checkpoint(comm_, root, [&](const json& e) { events.push_back(e); });
  } else {
    found = load_checkpoint_at(comm_, resume);
    set_aside_newer(*found);
  }
  if (is_first()) {
    log_ = std::make_unique<RunLog>(config_.directory, config_.log.tensorboard, generation_,
                                    found ? found->step + 1 : 0);
  }
  for (const json& entry : events) event(entry);
  return found;
}

// Going on from an older step than the newest here: the newer ones would be taken for this run's
// next time.
void TrainingRun::set_aside_newer(const LoadedCheckpoint& checkpoint) {
  on_rank_0(comm_, [&] {
    const std::string root = RunDirectory::checkpoints(config_.directory);
    for (const CheckpointDirectory& other : list_checkpoints(root)) {
      std::error_code ignored;
      if (other.step < checkpoint.step || fs::equivalent(other.path, checkpoint.path, ignored)) {
        continue;
      }
      rename_durably(other.path, other.path + ".superseded-" + utc_stamp());
      spdlog::warn("{} is set aside as *.superseded-*: the run goes on from {}", other.path,
                   checkpoint.path);
    }
    return std::string();
  });
}

RunPosition TrainingRun::report_start(const std::optional<LoadedCheckpoint>& checkpoint) {
  if (is_first()) replace_durably(config_.directory + "/config.toml", config_.resolved);
  json start = {{"event", "started"},         {"generation", generation_},
                {"world_size", comm_.size()}, {"backend", std::string(comm_.backend())},
                {"device", device_.str()},    {"step", checkpoint ? checkpoint->step : 0}};
  if (!checkpoint) {
    event(start);
    return {};
  }
  const RunPosition position = read_position(*checkpoint, config_);
  start["checkpoint"] = checkpoint->path;
  event(start);
  if (is_first()) spdlog::info("going on from {}", checkpoint->path);
  const std::vector<std::string> changes = changed_settings(*checkpoint, config_);
  if (!changes.empty()) {
    event({{"event", "settings_changed"}, {"changes", changes}});
    for (const std::string& change : changes) {
      if (is_first()) spdlog::warn("setting changed since the checkpoint: {}", change);
    }
  }
  checkpointer_->set_last_step(checkpoint->step);
  return position;
}

void TrainingRun::add_stage(size_t index) {
  std::vector<Stage*> earlier;
  for (const auto& stage : stages_) earlier.push_back(stage.get());
  stages_.push_back(
      options_.make_stage({config_, config_.stages[index], device_, comm_, std::move(earlier), true,
                           [this](const WorkReport& report) { observer_.on_work(report); }}));
}

RunOutcome TrainingRun::train_stage(size_t index, RunPosition position,
                                    const std::optional<LoadedCheckpoint>& checkpoint) {
  const StageConfig& config = config_.stages[index];
  const int64_t before = steps_before(index);
  Stage& stage = *stages_[index];
  const auto start = Clock::now();
  StepLoop loop(stage, comm_, observer_, *checkpointer_,
                {config_, config, device_, before, steps_before(config_.stages.size()),
                 [this](const StepReport& report) {
                   if (log_) log_->metrics(report);
                 }});
  const std::string fingerprint = stage.data_fingerprint();
  if (checkpoint) {
    restore_loop(*checkpoint, config, loop.state());
    loop.set_position(position.stage_step, position.bad_steps);
    if (fingerprint != position.data_fingerprint) {
      event({{"event", "data_changed"}, {"stage", config.name}});
      if (is_first())
        spdlog::warn("the data of stage {} are not those of the checkpoint", config.name);
    }
  }
  position.data_fingerprint = fingerprint;
  event({{"event", "stage_started"}, {"stage", config.name}, {"stage_step", loop.steps_done()}});

  const auto is_due = [&](int64_t every) {
    return every > 0 && loop.steps_done() % every == 0 && loop.steps_done() < config.steps;
  };
  while (loop.steps_done() < config.steps) {
    const bool trained = loop.step();
    position.stage_step = loop.steps_done();
    position.bad_steps = loop.bad_steps();
    if (!trained) {
      observer_.on_phase(Phase::kCheckpoint);
      loop.flush_report();
      if (checkpointer_->in_flight()) checkpointer_->settle();
      if (checkpointer_->last_step() != before + position.stage_step) save(position, &loop);
      checkpointer_->finish();
      return RunOutcome::kStopped;
    }
    if (is_due(config_.checkpoint.every_steps)) {
      observer_.on_phase(Phase::kCheckpoint);
      loop.flush_report();
      save(position, &loop);
    }
    if (is_due(config_.evaluation.every_steps)) {
      loop.flush_report();
      if (loop.average().is_on()) {
        loop.average().swap();
        stage.state_changed();
      }
      evaluate(index, position.stage_step, /*is_final=*/false);
      if (loop.average().is_on()) {
        loop.average().swap();
        stage.state_changed();
      }
    }
  }
  finish_stage(index, loop);
  event({{"event", "stage_finished"}, {"stage", config.name}, {"seconds", seconds_since(start)}});
  evaluate(index, config.steps, /*is_final=*/true);
  return RunOutcome::kFinished;
}

// What a stage leaves: its averaged weights if it has them, and a checkpoint without an optimizer.
void TrainingRun::finish_stage(size_t index, StepLoop& loop) {
  observer_.on_phase(Phase::kCheckpoint);
  loop.flush_report();
  loop.average().adopt();
  stages_[index]->state_changed();
  RunPosition position;
  position.stage_index = static_cast<int64_t>(index);
  position.stage_step = config_.stages[index].steps;
  position.is_complete = true;
  position.data_fingerprint = stages_[index]->data_fingerprint();
  save(position, nullptr);
  const bool is_last = index + 1 == config_.stages.size();
  if (is_last) {
    checkpointer_->finish();  // throws when the result of the run is not on disk
  } else {
    checkpointer_->settle();  // a failure was reported; the next checkpoint may succeed
  }
}

void TrainingRun::save(const RunPosition& position, const StepLoop* loop) {
  const auto index = static_cast<size_t>(position.stage_index);
  TensorMap all;
  for (size_t i = 0; i <= index; ++i) {
    add_stage_state(all, config_.stages[i], stages_[i]->state());
  }
  if (loop != nullptr) add_loop_state(all, config_.stages[index], loop->state());
  checkpointer_->start(all, state_json(position, config_),
                       steps_before(index) + position.stage_step);
}

void TrainingRun::evaluate(size_t index, int64_t step, bool is_final) {
  observer_.on_phase(Phase::kEvaluate);
  const auto start = Clock::now();
  const std::string& name = config_.stages[index].name;
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 7 ? 7 - digits.size() : 0, '0');
  const EvaluationRequest request{
      RunDirectory::images(config_.directory),      name + "-" + digits, step, is_final, {},
      is_final ? 0 : config_.evaluation.max_samples};
  const torch::NoGradGuard no_grad;
  const json result = stages_[index]->evaluate(comm_, request);
  if (!is_first()) return;
  log_->evaluation(name, step, steps_before(index) + step, result);
  if (is_final) replace_durably(evaluation_path(index), result.dump(2) + "\n");
  event({{"event", "evaluation"},
         {"stage", name},
         {"stage_step", step},
         {"is_final", is_final},
         {"seconds", seconds_since(start)}});
}

bool TrainingRun::is_evaluated(size_t index) {
  return on_rank_0(comm_, [&]() -> std::string {
           return fs::exists(evaluation_path(index)) ? "yes" : "";
         }) == "yes";
}

std::string TrainingRun::evaluation_path(size_t index) const {
  return RunDirectory::evaluation(config_.directory) + "/" + config_.stages[index].name + ".json";
}

int64_t TrainingRun::steps_before(size_t index) const {
  int64_t steps = 0;
  for (size_t i = 0; i < index; ++i) steps += config_.stages[i].steps;
  return steps;
}

void TrainingRun::event(json entry) {
  if (!is_first()) return;
  log_->event(std::move(entry));
}

void TrainingRun::write_status(const std::string& state) {
  if (!is_first()) return;
  log_->flush();
  const json status = {{"state", state},
                       {"generation", generation_},
                       {"world_size", comm_.size()},
                       {"backend", std::string(comm_.backend())},
                       {"device", device_.str()},
                       {"step", checkpointer_->last_step()},
                       {"total_steps", steps_before(config_.stages.size())}};
  replace_durably(config_.directory + "/run.json", status.dump(2) + "\n");
}

}  // namespace

void use_device(at::Device device) {
  if (!device.is_cuda()) return;
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  at::globalContext().setBenchmarkCuDNN(false);  // its choice differs from run to run
  at::globalContext().setDeterministicCuDNN(true);
}

at::Device choose_device(const ComputeConfig& config, int local_rank) {
  const bool has_gpu = torch::cuda::is_available();
  if (config.device == "cuda" && !has_gpu) {
    throw ConfigError(
        "compute.device = \"cuda\", but LibTorch sees no GPU here; `espalier doctor` "
        "tells why");
  }
  if (config.device == "cpu" || !has_gpu) return at::kCPU;
  const auto count = static_cast<int>(torch::cuda::device_count());
  return {at::kCUDA, static_cast<c10::DeviceIndex>(local_rank % count)};
}

std::unique_ptr<Stage> make_stage(const StageContext& context) {
  return context.stage.kind == "tokenizer" ? make_tokenizer_stage(context)
                                           : make_unified_stage(context);
}

RunOutcome run_training(const RunConfig& config, Communicator& comm, RunObserver& observer,
                        const RunOptions& options) {
  int64_t threads = config.compute.threads_per_rank;
  if (threads == 0) threads = cores_per_rank(options.local_size);
  at::set_num_threads(static_cast<int>(threads));
  use_device(choose_device(config.compute, options.local_rank));
  return TrainingRun(config, comm, observer, options).run();
}

}  // namespace espalier
