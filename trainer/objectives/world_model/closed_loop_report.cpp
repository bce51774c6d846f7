#include <array>
#include <cstdio>

#include <torch/torch.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/evaluation/wilson.h"
#include "trainer/named/image_set.h"
#include "trainer/objectives/world_model/closed_loop.h"
#include "trainer/objectives/world_model/dream_pictures.h"
#include "trainer/record/evaluation_files.h"

namespace espalier {
namespace {

constexpr int64_t kColumns = 16;  // of a filmstrip

std::string percent(double share) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * share);
  return text.data();
}

// Shares of one task, or of all of them when `task` is -1.
struct Rates {
  Rates(const ClosedLoop& result, int64_t task) {
    for (size_t actor = 0; actor < rate.size(); ++actor) {
      at::Tensor success = result.success[static_cast<int64_t>(actor)];
      if (task >= 0) success = success[task];
      count = success.numel();
      hits[actor] = static_cast<int64_t>(success.sum().item<double>());
      rate[actor] = static_cast<double>(hits[actor]) / static_cast<double>(count);
    }
  }
  std::array<double, kActors> rate{};
  std::array<int64_t, kActors> hits{};
  int64_t count = 0;

  Metric metric(const std::string& name, const std::string& label) const {
    return {.name = name,
            .label = label,
            .value = rate[kByPolicy],
            .standard_error = standard_error_of_share(rate[kByPolicy], count),
            .baselines = {{"random actions", rate[kAtRandom]}, {"the expert", rate[kByExpert]}}};
  }
  std::vector<std::string> row(const std::string& name) const {
    const Interval interval = wilson_interval(hits[kByPolicy], count);
    return {name,
            std::to_string(hits[kByPolicy]) + " of " + std::to_string(count),
            percent(rate[kByPolicy]),
            percent(interval.low) + " to " + percent(interval.high),
            percent(rate[kAtRandom]),
            percent(rate[kByExpert])};
  }
};

void add_rates(const ClosedLoop& result, Section& section) {
  Table table{.title = "Success in the simulator, on seeds that no demonstration has",
              .columns = {"task", "successes", "rate", "95 % interval (Wilson)", "random actions",
                          "the expert"},
              .rows = {}};
  const Rates all(result, -1);
  Metric metric = all.metric("success_rate", "success in the simulator, unseen seeds, all tasks");
  metric.is_headline = true;
  section.metrics.push_back(std::move(metric));
  for (size_t t = 0; t < result.tasks.size(); ++t) {
    const Rates rates(result, static_cast<int64_t>(t));
    table.rows.push_back(rates.row(result.tasks[t]));
    section.metrics.push_back(
        rates.metric("success_rate_" + result.tasks[t], "success in " + result.tasks[t]));
  }
  table.rows.push_back(all.row("all"));
  section.tables.push_back(std::move(table));
}

// Frames in a row, and under each what was dreamt of it some steps before.
void add_film(const WorldModelObjective& objective, const Film& film,
              const EvaluationRequest& request, Section& section) {
  const auto count = std::min<int64_t>(kColumns, std::ssize(film.frames));
  const int64_t ahead = objective.settings().future;
  const at::Tensor frames = at::stack(film.frames).narrow(0, 0, count);
  std::vector<std::vector<Image>> rows = {tensor_to_images(frame_values(frames))};
  const std::string name = film.success ? "success" : "failure";
  std::string legend = std::string("An episode that ") + (film.success ? "succeeded" : "failed") +
                       ": \"" + film.instruction + "\", its first " + std::to_string(count) +
                       " steps.";
  if (!film.dreamt.empty() && count > ahead) {
    const at::Tensor before = frames.narrow(0, 0, count - ahead);
    const at::Tensor painted =
        paint_dream(objective, before, at::stack(film.dreamt).narrow(0, 0, count - ahead),
                    region_between(objective, before, frames.narrow(0, ahead, count - ahead)));
    rows.emplace_back(static_cast<size_t>(ahead), blank_image(static_cast<int>(frames.size(3)),
                                                              static_cast<int>(frames.size(2))));
    for (Image& image : tensor_to_images(painted)) rows.back().push_back(std::move(image));
    legend += " Below each frame what was dreamt of it " + std::to_string(ahead) +
              " steps before, painted where the two differ.";
  }
  const std::string path = request.directory + "/" + request.picture_prefix + name + ".png";
  save_picture(path, contact_sheet(rows));
  section.pictures.push_back({name, path, legend});
}

}  // namespace

void report_closed_loop(const WorldModelObjective& objective, const ClosedLoop& result,
                        const EvaluationRequest& request, Section& section) {
  if (!result.error.empty()) {
    section.tables.push_back({.title = "The simulator could not be asked: no success rates",
                              .columns = {"why"},
                              .rows = {{result.error}}});
    return;
  }
  add_rates(result, section);
  for (const Film& film : result.films) add_film(objective, film, request, section);
}

}  // namespace espalier
