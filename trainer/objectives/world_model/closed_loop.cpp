#include "trainer/objectives/world_model/closed_loop.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>

#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/objectives/world_model/policy.h"
#include "trainer/simulator/simulator_client.h"

namespace espalier {
namespace {

constexpr int64_t kEnvironmentsAtOnce = 32;

SimulatorOptions options_of(const EpisodesConfig& config, const EpisodeIndex& index) {
  SimulatorOptions options;
  options.python =
      config.python.empty() ? ".deps/simulators-" + index.simulator + "/bin/python" : config.python;
  options.script = config.script;
  options.simulator = index.simulator;
  options.arguments = config.arguments;
  return options;
}

// Some rollouts of one task.
struct Job {
  int64_t task = 0;
  int64_t first = 0;  // rollout
  int64_t count = 0;
};

class Player {
 public:
  Player(WorldModelObjective& objective, ClosedLoop& result)
      : objective_(objective),
        model_(objective.model()),
        result_(result),
        policy_(model_, objective.seed(),
                {.ensemble = objective.settings().ensemble,
                 .temperature = objective.settings().action_temperature,
                 .precision = objective.precision()}) {}

  // This rank's jobs. Throws SimulatorError.
  void play(const std::vector<Job>& jobs) {
    Communicator& comm = objective_.things().comm();
    std::unique_ptr<SimulatorClient> client;
    for (size_t i = static_cast<size_t>(comm.rank()); i < jobs.size();
         i += static_cast<size_t>(comm.size())) {
      if (!client) {
        const std::string& name = model_.settings().episodes;
        client = std::make_unique<SimulatorClient>(options_of(
            objective_.things().config().episodes_named(name, "episodes"), model_.index()));
      }
      play(*client, jobs[i]);
      done_ = static_cast<int64_t>(i) + 1;
      total_ = std::ssize(jobs);
      tell();
    }
  }

 private:
  void tell() const {
    if (objective_.things().on_work()) {
      objective_.things().on_work()({"evaluation: closed loop", done_, total_});
    }
  }

  void record(ClosedLoopActor actor, const Job& job, const std::vector<bool>& success) {
    for (int64_t e = 0; e < job.count; ++e) {
      result_.success[actor][job.task][job.first + e] = success[static_cast<size_t>(e)] ? 1.0 : 0.0;
    }
  }

  void play(SimulatorClient& client, const Job& job) {
    const std::string& task = result_.tasks[static_cast<size_t>(job.task)];
    std::vector<int64_t> seeds;
    for (int64_t e = 0; e < job.count; ++e) {
      seeds.push_back(model_.index().unseen_seeds.first + job.first + e);
    }
    record(kByExpert, job, client.expert(task, seeds).success);
    tell();
    record(kAtRandom, job, client.random(task, seeds).success);
    tell();
    act(client, job, task, seeds);
  }

  void check(const ResetAnswer& answer) const {
    const EpisodeIndex& index = model_.index();
    const auto sizes = answer.observation.images.sizes();
    if (answer.views == index.views && sizes[2] == index.height && sizes[3] == index.width &&
        answer.observation.state.size(1) == index.state_size()) {
      return;
    }
    throw SimulatorError("the simulator shows other views or sizes than the episodes of " +
                         index.path + " have; were they made with other options?");
  }

  // What the simulator says may be too long for the model: that is no reason to end a run.
  void begin(const std::vector<std::string>& instructions, const std::vector<int64_t>& seeds) {
    try {
      policy_.start(instructions, seeds);
    } catch (const ConfigError& error) {
      throw SimulatorError(error.what());
    }
  }

  void act(SimulatorClient& client, const Job& job, const std::string& task,
           const std::vector<int64_t>& seeds) {
    ResetAnswer begun = client.reset(task, seeds);
    check(begun);
    begin(begun.instructions, seeds);
    StepAnswer now{.ended = std::vector<bool>(seeds.size(), false),
                   .success = std::vector<bool>(seeds.size(), false),
                   .observation = begun.observation};
    std::vector<Film> films = wants_films() ? std::vector<Film>(seeds.size()) : std::vector<Film>{};
    for (size_t e = 0; e < films.size(); ++e) films[e].instruction = begun.instructions[e];
    // One step more than the simulator allows would mean that it counts otherwise than its index.
    for (int64_t t = 0; t <= model_.index().max_steps.at(task); ++t) {
      std::vector<int64_t> active;
      for (size_t e = 0; e < seeds.size(); ++e) {
        if (now.ended[e]) continue;
        active.push_back(static_cast<int64_t>(e));
        result_.steps[job.task][job.first + static_cast<int64_t>(e)] = static_cast<double>(t + 1);
      }
      if (active.empty()) break;
      const WorldPolicy::Answer answer = policy_.act(now.observation, active);
      film(films, active, now.observation, answer.dreamt);
      now = client.step(answer.actions);
      tell();
    }
    record(kByPolicy, job, now.success);
    for (size_t e = 0; e < films.size(); ++e) {
      films[e].success = now.success[e];
      keep(std::move(films[e]));
    }
  }

  bool has_film(bool success) const {
    return std::any_of(result_.films.begin(), result_.films.end(),
                       [&](const Film& film) { return film.success == success; });
  }
  bool wants_films() const {
    return objective_.things().comm().rank() == 0 && !(has_film(true) && has_film(false));
  }
  void keep(Film film) {
    if (!has_film(film.success)) result_.films.push_back(std::move(film));
  }
  static void film(std::vector<Film>& films, const std::vector<int64_t>& active,
                   const Observation& observation, const at::Tensor& dreamt) {
    if (films.empty()) return;
    for (const int64_t e : active) {
      Film& one = films[static_cast<size_t>(e)];
      one.frames.push_back(observation.images[e][0].permute({2, 0, 1}).clone());
      if (dreamt.defined()) one.dreamt.push_back(dreamt[e][0].clone());
    }
  }

  WorldModelObjective& objective_;
  WorldModel& model_;
  ClosedLoop& result_;
  WorldPolicy policy_;
  int64_t done_ = 0, total_ = 1;
};

// Batches of a task's rollouts, as even as can be; the same for any number of ranks.
std::vector<Job> jobs_of(int64_t tasks, int64_t rollouts) {
  const int64_t batches = (rollouts + kEnvironmentsAtOnce - 1) / kEnvironmentsAtOnce;
  std::vector<Job> jobs;
  for (int64_t task = 0; task < tasks; ++task) {
    for (int64_t b = 0; b < batches; ++b) {
      const int64_t first = b * rollouts / batches;
      jobs.push_back({task, first, (b + 1) * rollouts / batches - first});
    }
  }
  return jobs;
}

}  // namespace

ClosedLoop run_closed_loop(WorldModelObjective& objective) {
  NamedThings& things = objective.things();
  Communicator& comm = things.comm();
  const EpisodeIndex& index = objective.model().index();
  const EpisodesConfig& config =
      things.config().episodes_named(objective.model().settings().episodes, "episodes");
  const int64_t unseen = index.unseen_seeds.last - index.unseen_seeds.first + 1;
  const int64_t rollouts = std::min(objective.settings().rollouts, unseen);
  ClosedLoop result{.tasks = config.tasks.empty() ? index.tasks : config.tasks,
                    .success = {},
                    .steps = {},
                    .films = {},
                    .error = {}};
  const auto tasks = std::ssize(result.tasks);
  result.success = at::zeros({kActors, tasks, rollouts});
  result.steps = at::zeros({tasks, rollouts});
  try {
    Player(objective, result).play(jobs_of(tasks, rollouts));
  } catch (const SimulatorError& error) {
    result.error = error.what();
    spdlog::warn("closed loop: {}; the run goes on without this part of its evaluation",
                 error.what());
  }
  // From here on all ranks do the same again, whatever befell them.
  const std::vector<std::string> errors = gather_text(comm, result.error);
  for (size_t rank = 0; rank < errors.size() && result.error.empty(); ++rank) {
    if (!errors[rank].empty()) result.error = "rank " + std::to_string(rank) + ": " + errors[rank];
  }
  const at::Tensor all =
      at::cat({result.success.flatten(), result.steps.flatten()}).to(communication_device(comm));
  comm.all_reduce(all)->wait();
  const auto parts =
      all.to(at::kCPU).split_with_sizes({result.success.numel(), result.steps.numel()});
  result.success = parts[0].view_as(result.success);
  result.steps = parts[1].view_as(result.steps);
  return result;
}

}  // namespace espalier
