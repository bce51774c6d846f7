// Trains the first steps of one stage exactly as a run does (its Stage, step loop, reducer,
// optimizer and prefetcher), without checkpoints and evaluation, and prints one line of JSON.
//
//   mpirun -n 2 step_bench configs/quickstart.toml --stage tokenizer --warmup 10 --steps 20
//   mpirun -n 2 step_bench configs/quickstart.toml --stage tokenizer --warmup 10 --steps 20 --dump
//   F
//
// The second form trains nothing: it writes what tests/bench/peer.py needs to do the same.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <exception>

#include <torch/torch.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "comm/transport/mpi_communicator.h"
#include "tests/bench/training_dump.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/host/host_memory.h"
#include "trainer/update/step_loop.h"

namespace espalier {
namespace {

using nlohmann::json;

struct Arguments {
  std::string config, stage, dump;
  std::vector<std::string> sets;
  int64_t warmup = 10;
  int64_t steps = 20;
  bool plain_heap = false;
};

class LossRecorder : public RunObserver {
 public:
  void on_step(const StepReport& report) override {
    losses.push_back(report.losses);
    last_times = report.time_s;
  }
  json losses = json::array();
  std::map<std::string, double> last_times;  // per step, since the first or the warm-up
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

// The stage, and those before it, which it may build upon: theirs are the weights of a fresh start.
std::vector<std::unique_ptr<Stage>> make_stages(const RunConfig& config, size_t index,
                                                Communicator& comm) {
  std::vector<std::unique_ptr<Stage>> stages;
  std::vector<Stage*> earlier;
  for (size_t i = 0; i <= index; ++i) {
    const StageContext context{config,
                               config.stages[i],
                               at::kCPU,
                               comm,
                               earlier,
                               /*for_training=*/i == index};
    stages.push_back(context.stage.kind == "tokenizer" ? make_tokenizer_stage(context)
                                                       : make_unified_stage(context));
    earlier.push_back(stages.back().get());
  }
  return stages;
}

size_t find_stage(const RunConfig& config, const std::string& name) {
  for (size_t i = 0; i < config.stages.size(); ++i) {
    if (config.stages[i].name == name) return i;
  }
  throw ConfigError("no stage is called " + name);
}

json train(const Arguments& arguments, const RunConfig& config, const StageConfig& stage_config,
           Stage& stage, Communicator& comm) {
  LossRecorder recorder;
  Checkpointer checkpointer(comm, recorder, {}, [](const json&) {});
  StepLoop loop(stage, comm, recorder, checkpointer,
                StepLoopOptions{config, stage_config, at::kCPU, 0, stage_config.steps});
  for (int64_t step = 0; step < arguments.warmup; ++step) loop.step();
  comm.barrier();
  const double cpu_before = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < arguments.steps; ++step) loop.step();
  comm.barrier();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double cpu = sum_over_ranks(comm, cpu_seconds() - cpu_before);
  loop.flush_report();
  const auto samples = static_cast<double>(arguments.steps * stage_config.batch_size);
  return {{"samples_per_s", samples / elapsed.count()},
          {"step_s", elapsed.count() / static_cast<double>(arguments.steps)},
          {"cpu_s_per_step", cpu / static_cast<double>(arguments.steps)},
          {"phase_s_per_step", recorder.last_times},
          {"losses", recorder.losses}};
}

void run(const Arguments& arguments) {
  if (!arguments.plain_heap) keep_heap_in_huge_pages(/*local_processes=*/2);
  at::set_num_threads(1);
  const auto comm = make_mpi_communicator({.timeout_s = 600});
  RunConfig config = load_run_config(arguments.config, arguments.sets);
  validate_for_world(config, comm->size());
  config.log.every_steps = arguments.warmup;  // times by phase start anew after the warm-up
  const size_t index = find_stage(config, arguments.stage);
  const StageConfig& stage_config = config.stages[index];
  const int64_t steps = arguments.warmup + arguments.steps;
  if (steps > stage_config.steps) {
    throw ConfigError("stage " + stage_config.name + " has only " +
                      std::to_string(stage_config.steps) + " steps");
  }
  const auto stages = make_stages(config, index, *comm);
  Stage& stage = *stages.back();
  if (!arguments.dump.empty()) {
    if (comm->rank() == 0) dump_training(arguments.dump, config, stage_config, stage, steps);
    comm->barrier();
    return;
  }
  const json result = train(arguments, config, stage_config, stage, *comm);
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
