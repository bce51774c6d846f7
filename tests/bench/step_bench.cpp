// Trains the first steps of one stage exactly as a run does (its Stage, step loop, reducer,
// optimizer and prefetcher), without checkpoints and evaluation, and prints one line of JSON.
//
//   mpirun -n 2 step_bench configs/quickstart.toml --stage codes --warmup 10 --steps 20
//   mpirun -n 2 step_bench configs/quickstart.toml --stage codes --warmup 10 --steps 20 --dump F
//   mpirun -n 2 step_bench configs/quickstart.toml --stage codes --warmup 10 --steps 1 --codes F
//
// The second form trains nothing: it writes what tests/bench/peer.py needs to do the same. The
// third writes beside it which codes each rank R chose in the steps before the clock, to F.R.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <exception>

#include <torch/torch.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "comm/transport/mpi_communicator.h"
#include "tests/bench/code_recorder.h"
#include "tests/bench/training_dump.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/host/host_memory.h"
#include "trainer/update/step_loop.h"

namespace espalier {
namespace {

using nlohmann::json;

struct Arguments {
  std::string config, stage, dump, codes;
  std::vector<std::string> sets;
  int64_t warmup = 10;
  int64_t steps = 20;
  bool plain_heap = false;
};

// By step: the losses that had targets, and the time by phase. Wants a line of the log per step,
// from which means start anew.
class StepRecorder : public RunObserver {
 public:
  explicit StepRecorder(const Stage& stage) : stage_(stage) {}

  void on_step(const StepReport& report) override {
    json of_step = json::object();
    for (const StageLoss& loss : stage_.losses()) {
      if (stage_.plan().slots_in(loss.objective, report.step - 1) == 0) continue;
      const auto found = report.losses.find(loss.name);
      if (found != report.losses.end()) of_step[loss.name] = found->second;
    }
    losses.push_back(of_step);
    times.push_back(report.time_s);
  }
  // Seconds per step by phase, from the step `first` on.
  std::map<std::string, double> mean_times(size_t first) const {
    std::map<std::string, double> means;
    for (size_t step = first; step < times.size(); ++step) {
      for (const auto& [phase, seconds] : times[step]) {
        means[phase] += seconds / static_cast<double>(times.size() - first);
      }
    }
    return means;
  }

  json losses = json::array();
  std::vector<std::map<std::string, double>> times;

 private:
  const Stage& stage_;
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double sum_over_ranks(Communicator& comm, double value) {
  const at::Tensor sum = torch::tensor(value, torch::kDouble);
  comm.all_reduce(sum)->wait();
  return sum.item<double>();
}

json train(const Arguments& arguments, NamedThings& things, Stage& stage) {
  Communicator& comm = things.comm();
  StepRecorder recorder(stage);
  CodeRecorder codes(things, stage);
  Checkpointer checkpointer(comm, recorder, {}, [](const json&) {});
  StepLoop loop(stage, comm, recorder, checkpointer,
                {things.config(), at::kCPU, 0, stage.config().steps});
  for (int64_t step = 0; step < arguments.warmup; ++step) {
    if (!arguments.codes.empty()) codes.before_step(step);
    loop.step();
  }
  if (!arguments.codes.empty()) codes.write(arguments.codes + "." + std::to_string(comm.rank()));
  comm.barrier();
  const double cpu_before = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < arguments.steps; ++step) loop.step();
  comm.barrier();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double cpu = sum_over_ranks(comm, cpu_seconds() - cpu_before);
  loop.flush_report();
  const auto samples = static_cast<double>(arguments.steps * stage.config().batch_size);
  return {{"samples_per_s", samples / elapsed.count()},
          {"step_s", elapsed.count() / static_cast<double>(arguments.steps)},
          {"cpu_s_per_step", cpu / static_cast<double>(arguments.steps)},
          {"phase_s_per_step", recorder.mean_times(static_cast<size_t>(arguments.warmup))},
          {"losses", recorder.losses}};
}

void run(const Arguments& arguments) {
  if (!arguments.plain_heap) keep_heap_in_huge_pages(/*local_processes=*/2);
  at::set_num_threads(1);
  const auto comm = make_mpi_communicator({.timeout_s = 600});
  RunConfig config = load_run_config(arguments.config, arguments.sets);
  validate_for_world(config, comm->size());
  config.log.every_steps = 1;  // so that every report is of one step alone
  const StageConfig& stage_config = config.stage_named(arguments.stage);
  const int64_t steps = arguments.warmup + arguments.steps;
  if (steps > stage_config.steps) {
    throw ConfigError("stage " + stage_config.name + " has only " +
                      std::to_string(stage_config.steps) + " steps");
  }
  // Models that earlier stages would have trained have the weights of a fresh start.
  NamedThings things(config, *comm, at::kCPU);
  Stage stage(things, stage_config, /*for_training=*/true);
  if (!arguments.dump.empty()) {
    if (comm->rank() == 0) dump_training(arguments.dump, things, stage, steps);
    comm->barrier();
    return;
  }
  const json result = train(arguments, things, stage);
  if (comm->rank() == 0) std::printf("%s\n", result.dump().c_str());
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Arguments arguments;
  CLI::App app("Samples per second of a stage's training steps");
  app.add_option("config", arguments.config, "TOML file")->required();
  app.add_option("--stage", arguments.stage, "name of the stage")->required();
  app.add_option("--set", arguments.sets, "KEY=VALUE");
  app.add_option("--warmup", arguments.warmup, "steps before the clock starts")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--steps", arguments.steps, "steps that are timed")->check(CLI::Range(1, 1000000));
  app.add_flag("--plain-heap", arguments.plain_heap, "without what a run does to the heap");
  app.add_option("--dump", arguments.dump,
                 "write the initial weights and all batches here instead");
  app.add_option("--codes", arguments.codes,
                 "write the codes chosen before the clock here, .RANK behind it");
  CLI11_PARSE(app, argc, argv);
  try {
    espalier::run(arguments);
  } catch (const espalier::ConfigError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 64;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
  return 0;
}
