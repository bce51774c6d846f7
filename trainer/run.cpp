#include "trainer/run.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include <torch/torch.h>

#include "models/kernels/cpu_features.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/checkpoint/shared_directory.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/host/device.h"
#include "trainer/host/start_cost.h"
#include "trainer/provenance/run_origin.h"
#include "trainer/record/evaluation_files.h"
#include "trainer/record/metrics.h"
#include "trainer/record/run_directory.h"
#include "trainer/record/run_state.h"
#include "trainer/run_evaluation.h"
#include "trainer/update/precision.h"
#include "trainer/update/step_loop.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

// One call of run_training() on one rank.
class TrainingRun {
 public:
  TrainingRun(const RunConfig& config, Communicator& comm, RunObserver& observer,
              const RunOptions& options)
      : config_(config),
        comm_(comm),
        control_(options.control ? *options.control : comm),
        observer_(observer),
        options_(options),
        device_(choose_device(config.compute, options.local_rank)),
        things_(config, comm, device_, /*for_training=*/true,
                [this](const WorkReport& report) { observer_.on_work(report); }) {}

  RunOutcome run();

 private:
  bool is_first() const { return comm_.rank() == 0; }
  void open_directory();
  RunOrigin find_start();
  RunPosition report_start(const RunOrigin& origin);
  RunOutcome run_stage(size_t index, RunPosition position,
                       std::optional<LoadedCheckpoint>& checkpoint);
  void resume(const LoadedCheckpoint& checkpoint, const RunPosition& position, Stage& stage,
              StepLoop& loop);
  RunOutcome train(Stage& stage, StepLoop& loop, RunEvaluation& evaluation, RunPosition position);
  RunOutcome stop(Stage& stage, StepLoop& loop, const RunPosition& position);
  RunEvaluation evaluation_of(Stage& stage);
  RunEvaluation::Verdict evaluate_with_averages(Stage& stage, StepLoop& loop,
                                                RunEvaluation& evaluation);
  void save(const RunPosition& position, Stage& stage, const StepLoop* loop, bool is_best = false);
  void finish_stage(size_t index, Stage& stage, StepLoop& loop, RunEvaluation& evaluation);
  bool is_evaluated(size_t index);
  int64_t steps_before(size_t index) const;
  size_t index_of(const Stage& stage) const;
  void event(json event);
  void note_checkpoint(const json& entry);
  void write_status(const std::string& state);

  const RunConfig& config_;
  Communicator &comm_, &control_;
  RunObserver& observer_;
  const RunOptions& options_;
  at::Device device_;
  int generation_ = 1;
  Clock::time_point set_up_since_ = Clock::now();
  std::unique_ptr<RunDirectory> directory_;
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<Checkpointer> checkpointer_;
  json failed_checkpoint_;  // the last save, where it failed
  NamedThings things_;
  BegunWith begun_with_;
  TensorMap left_by_objectives_;  // of finished stages, by their names in a checkpoint
};

RunOutcome TrainingRun::run() {
  observer_.on_phase(Phase::kSetup);
  validate_for_world(config_, comm_.size());
  open_directory();
  if (config_.checkpoint.shared) require_shared_directory(comm_, config_.directory);
  checkpointer_ = std::make_unique<Checkpointer>(
      control_, observer_,
      CheckpointerOptions{.root = RunDirectory::checkpoints(config_.directory),
                          .keep = config_.checkpoint.keep,
                          .generation = generation_,
                          .is_shared = config_.checkpoint.shared,
                          .is_ours = [this] { return directory_->is_ours(); }},
      [this](const json& entry) { note_checkpoint(entry); });
  RunOrigin origin = find_start();
  const RunPosition start = report_start(origin);
  write_status("running");
  observer_.on_phase(Phase::kSetup);
  things_.open_data();
  begun_with_ = begin_with_weights(origin, options_, things_);
  left_by_objectives_ = std::move(begun_with_.of_objectives);
  // Not before the checkpoint was found to fit: a mistaken command leaves the run as it was.
  record_start(comm_, config_, history_entry(origin, start, options_, generation_));
  std::optional<LoadedCheckpoint> checkpoint = std::move(origin.checkpoint);
  origin = {};  // the parent holds everything a second time
  for (auto i = static_cast<size_t>(start.stage_index); i < config_.stages.size(); ++i) {
    RunPosition position = checkpoint ? start : RunPosition{};
    position.stage_index = static_cast<int64_t>(i);
    if (position.is_complete && is_evaluated(i)) {
      checkpoint.reset();
      continue;
    }
    if (run_stage(i, position, checkpoint) == RunOutcome::kStopped) {
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
  const json decided = json::parse(on_rank_0(comm_, [&] {
    directory_ = std::make_unique<RunDirectory>(config_.directory, options_.generation);
    const json before = read_run_state(config_.directory);
    // A run that goes on computes as it began, on whatever processor.
    const std::string fast = kernels::bf16_is_fast() ? "bf16" : "fp32";
    remove_temporaries(RunDirectory::checkpoints(config_.directory));
    const int next = before.value("generation", 0) + 1;
    return json{{"generation", options_.generation == 0 ? next : options_.generation},
                {"is_bf16", before.value("auto_precision", fast) == "bf16"}}
        .dump();
  }));
  generation_ = decided.at("generation");
  kernels::set_bf16_is_fast(decided.at("is_bf16"));
}

RunOrigin TrainingRun::find_start() {
  observer_.on_phase(Phase::kLoadCheckpoint);
  std::vector<json> events;  // the log opens when the step to go on from is known
  RunOrigin origin =
      find_origin(comm_, config_, options_, [&](const json& entry) { events.push_back(entry); });
  if (is_first()) {
    log_ = std::make_unique<RunLog>(config_.directory, config_.log.tensorboard, generation_,
                                    origin.checkpoint ? origin.checkpoint->step + 1 : 0);
  }
  for (const json& entry : events) event(entry);
  return origin;
}

RunPosition TrainingRun::report_start(const RunOrigin& origin) {
  RunPosition position;
  const int64_t step = origin.checkpoint ? origin.checkpoint->step : 0;
  if (origin.checkpoint) {
    position = read_position_to_train(*origin.checkpoint, config_, options_.extends);
    checkpointer_->set_last_step(step);
  }
  json start = {{"event", "started"},         {"generation", generation_},
                {"world_size", comm_.size()}, {"backend", std::string(comm_.backend())},
                {"device", device_.str()},    {"step", step}};
  start.update(origin.place());
  event(start);
  if (is_first()) origin.say();
  if (!origin.changes.empty()) {
    event({{"event", "settings_changed"}, {"changes", to_json(origin.changes)}});
  }
  return position;
}

// `checkpoint`: the one to go on from, where the stage was begun before. It is let go as soon as
// its tensors have been copied: it holds everything a second time.
RunOutcome TrainingRun::run_stage(size_t index, RunPosition position,
                                  std::optional<LoadedCheckpoint>& checkpoint) {
  const StageConfig& config = config_.stages[index];
  observer_.on_phase(Phase::kSetup);
  Stage stage(things_, config, /*for_training=*/!position.is_complete);
  if (position.is_complete) {
    restore_objectives(*checkpoint, stage);
    checkpoint.reset();
    evaluation_of(stage).final(position.stage_step);
    return RunOutcome::kFinished;
  }
  inherit_objectives(left_by_objectives_, stage);
  if (position.is_extended) restore_objectives(*checkpoint, stage);  // averages begin with them
  const auto start = Clock::now();
  StepLoop loop(stage, comm_, observer_, *checkpointer_,
                {config_, device_, &control_, steps_before(index),
                 steps_before(config_.stages.size()), log_.get()});
  if (checkpoint) resume(*checkpoint, position, stage, loop);
  checkpoint.reset();
  for (size_t i = index; is_first() && i < config_.stages.size(); ++i) {
    forget_evaluation(config_.directory, config_.stages[i].name);
  }
  position.data_fingerprint = stage.data_fingerprint();
  event({{"event", "stage_started"},
         {"stage", config.name},
         {"stage_step", loop.steps_done()},
         {"precision", resolve_precision(device_.type(), config.precision)}});
  RunEvaluation evaluation = evaluation_of(stage);
  evaluation.restore(position.best);
  evaluation.prepare(loop.steps_done() == 0);
  event(set_up_event(comm_, config.name, Clock::now() - set_up_since_));
  if (train(stage, loop, evaluation, position) == RunOutcome::kStopped) return RunOutcome::kStopped;
  finish_stage(index, stage, loop, evaluation);
  const std::chrono::duration<double> taken = Clock::now() - start;
  event({{"event", "stage_finished"}, {"stage", config.name}, {"seconds", taken.count()}});
  evaluation.final(loop.steps_done());
  things_.drop_data();
  set_up_since_ = Clock::now();
  return RunOutcome::kFinished;
}

void TrainingRun::resume(const LoadedCheckpoint& checkpoint, const RunPosition& position,
                         Stage& stage, StepLoop& loop) {
  restore_objectives(checkpoint, stage);
  if (!position.is_extended) restore_loop(checkpoint, stage.config(), loop.state());
  loop.set_position(position.stage_step, position.bad_steps, position.losses);
  if (stage.data_fingerprint() == position.data_fingerprint) return;
  event({{"event", "data_changed"}, {"stage", stage.config().name}});
  if (is_first()) {
    spdlog::warn("the data of stage {} are not those of the checkpoint", stage.config().name);
  }
}

RunOutcome TrainingRun::train(Stage& stage, StepLoop& loop, RunEvaluation& evaluation,
                              RunPosition position) {
  const int64_t steps = stage.config().steps;
  const auto is_due = [&](int64_t every) {
    return every > 0 && loop.steps_done() % every == 0 && loop.steps_done() < steps;
  };
  while (loop.steps_done() < steps) {
    const bool trained = loop.step();
    position.stage_step = loop.steps_done();
    position.bad_steps = loop.bad_steps();
    if (!trained) return stop(stage, loop, position);
    // Before the checkpoint of the same step: after a kill the run goes on behind it.
    RunEvaluation::Verdict verdict;
    if (is_due(config_.evaluation.every_steps)) {
      loop.flush_report();
      verdict = evaluate_with_averages(stage, loop, evaluation);
    }
    position.best = evaluation.best().state();
    const bool must_wait = loop.is_cut_off() && checkpointer_->in_flight();  // as the last save
    if (verdict.is_best || (is_due(config_.checkpoint.every_steps) && !must_wait)) {
      observer_.on_phase(Phase::kCheckpoint);
      loop.flush_report();
      save(position, stage, &loop, verdict.is_best);
    }
    if (verdict.stops_early) break;
  }
  return RunOutcome::kFinished;
}

RunOutcome TrainingRun::stop(Stage& stage, StepLoop& loop, const RunPosition& position) {
  observer_.on_phase(Phase::kCheckpoint);
  loop.flush_report();
  if (checkpointer_->in_flight()) checkpointer_->settle();
  const int64_t step = steps_before(index_of(stage)) + position.stage_step;
  if (checkpointer_->last_step() != step) save(position, stage, &loop);
  checkpointer_->finish();
  return RunOutcome::kStopped;
}

RunEvaluation TrainingRun::evaluation_of(Stage& stage) {
  return {things_,
          stage,
          observer_,
          {log_.get(), steps_before(index_of(stage)), [this](json entry) { event(entry); }}};
}

RunEvaluation::Verdict TrainingRun::evaluate_with_averages(Stage& stage, StepLoop& loop,
                                                           RunEvaluation& evaluation) {
  const auto swap = [&] {
    if (!loop.average().is_on()) return;
    loop.average().swap();
    stage.state_changed();
  };
  swap();
  const RunEvaluation::Verdict verdict = evaluation.interim(loop.steps_done());
  swap();
  return verdict;
}

// What a stage leaves: its averaged weights if it has them, and a checkpoint without an optimizer.
void TrainingRun::finish_stage(size_t index, Stage& stage, StepLoop& loop,
                               RunEvaluation& evaluation) {
  observer_.on_phase(Phase::kCheckpoint);
  loop.flush_report();
  loop.average().adopt();
  stage.state_changed();
  const bool is_best = evaluation.last_validation(loop.steps_done()).is_best;
  observer_.on_phase(Phase::kCheckpoint);
  things_.model_changed(stage.config().trains);
  for (const auto& [name, tensor] : below(stage.state(), "objective/")) {
    left_by_objectives_["objective/" + name] = tensor.detach().clone();
  }
  // Its steps are fewer than planned where it ended early.
  const RunPosition position{.stage_index = static_cast<int64_t>(index),
                             .stage_step = loop.steps_done(),
                             .is_complete = true,
                             .data_fingerprint = stage.data_fingerprint()};
  save(position, stage, nullptr, is_best);
  if (index + 1 == config_.stages.size()) {
    checkpointer_->finish();  // throws when the result of the run is not on disk
  } else {
    checkpointer_->settle();  // a failure was reported; the next checkpoint may succeed
  }
}

// Models with other weights than the seed gives again: trained up to here, or begun with them.
void TrainingRun::save(const RunPosition& position, Stage& stage, const StepLoop* loop,
                       bool is_best) {
  const auto index = static_cast<size_t>(position.stage_index);
  TensorMap all = left_by_objectives_;
  std::set<std::string> models = begun_with_.models;
  for (size_t i = 0; i < index; ++i) models.insert(config_.stages[i].trains);
  for (const std::string& name : models) {
    for (const auto& [tensor_name, tensor] : things_.model(name).state()) {
      all[model_prefix(name) + tensor_name] = tensor;
    }
  }
  for (const auto& [name, tensor] : stage.state()) all[name] = tensor;
  if (loop != nullptr) add_loop_state(all, stage.config(), loop->state());
  json state = state_json(position, config_);
  if (loop != nullptr) state["losses"] = loop->loss_meter().state();
  state["commit"] = options_.commit;
  checkpointer_->start(all, state, steps_before(index) + position.stage_step, is_best);
}

bool TrainingRun::is_evaluated(size_t index) {
  const std::string path = evaluation_path(config_.directory, config_.stages[index].name);
  return on_rank_0(comm_, [&]() -> std::string { return fs::exists(path) ? "yes" : ""; }) == "yes";
}

int64_t TrainingRun::steps_before(size_t index) const {
  int64_t steps = 0;
  for (size_t i = 0; i < index; ++i) steps += config_.stages[i].steps;
  return steps;
}

size_t TrainingRun::index_of(const Stage& stage) const {
  return static_cast<size_t>(&stage.config() - config_.stages.data());
}

void TrainingRun::event(json entry) {
  if (is_first()) log_->event(std::move(entry));
}

// Who looks at run.json sees that saves fail, and since when they succeed again.
void TrainingRun::note_checkpoint(const json& entry) {
  event(entry);
  const bool has_failed = entry.at("event") == "checkpoint_failed";
  if (!has_failed && (failed_checkpoint_.is_null() || entry.at("event") != "checkpoint_committed"))
    return;
  failed_checkpoint_ = has_failed ? entry : json();
  write_status("running");
}

void TrainingRun::write_status(const std::string& state) {
  if (!is_first()) return;
  log_->flush();
  const json status = {{"state", state},
                       {"generation", generation_},
                       {"world_size", comm_.size()},
                       {"backend", std::string(comm_.backend())},
                       {"device", device_.str()},
                       {"auto_precision", kernels::bf16_is_fast() ? "bf16" : "fp32"},
                       {"step", checkpointer_->last_step()},
                       {"total_steps", steps_before(config_.stages.size())},
                       {"failed_checkpoint", failed_checkpoint_}};
  write_run_state(config_.directory, status);
}

}  // namespace

RunOutcome run_training(const RunConfig& config, Communicator& comm, RunObserver& observer,
                        const RunOptions& options) {
  use_threads(config.compute, options.local_size);
  use_device(choose_device(config.compute, options.local_rank), config.compute.deterministic);
  return TrainingRun(config, comm, observer, options).run();
}

}  // namespace espalier
