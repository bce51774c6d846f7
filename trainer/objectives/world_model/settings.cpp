#include "trainer/objectives/world_model/world_model.h"

namespace espalier {

// Tables below this one come last: the resolved file is written in the order of declaration.
void WorldModelObjectiveSettings::declare(SettingsScope scope) {
  scope.add("future", future,
            {.help = "How far ahead dreams are.", .unit = "steps", .min = 0, .max = 1000});
  scope.add("condition_dropout", condition_dropout,
            {.help = "Share of draws in which the action's condition is dropped, for guidance.",
             .min = 0,
             .max = 1});
  scope.add("noise_repeats", noise_repeats,
            {.help = "Draws of noise for each chunk of actions.", .min = 1, .max = 1024});
  declare_targets(scope);
  scope.add("rollouts", rollouts,
            {.help = "Unseen episodes of each task that the final evaluation acts in; 0 = the "
                     "simulator is not asked.",
             .unit = "episodes",
             .min = 0,
             .max = 1e6});
  scope.add("ensemble", ensemble,
            {.help = "Act by the mean of what the last chunks say about a step, older ones "
                     "weighing less."});
  scope.add("action_temperature", action_temperature,
            {.help = "Discrete actions of a direct head are drawn by their probabilities at this "
                     "temperature, times how often the same was seen, which leaves circles; 0 = "
                     "the likeliest, always.",
             .min = 0,
             .max = 100});
  SettingsScope region = scope.below("region");
  region.add("pixel_threshold", pixel_threshold,
             {.help = "A pixel moved when a channel, of values in 0 to 1, changed by more.",
              .min = 0,
              .max = 1});
  region.add("share", region_share,
             {.help = "A patch moved when more than this share of its pixels did; only those are "
                      "dreamt.",
              .min = 0,
              .max = 1});
  region.add("dilate", dilate, {.help = "Patches beside one that moved are dreamt too."});
  SettingsScope weight = scope.below("weight");
  const auto of = [](const std::string& what) {
    return SettingSpec{.help = "Of " + what, .min = 0, .max = 1e6};
  };
  weight.add("action", action, of("the actions."));
  weight.add("dynamic", dynamic, of("what moves, dreamt as pixels."));
  weight.add("depth", depth, of("depth."));
  weight.add("semantic", semantic, of("semantic features; 0 = measured, but trains nothing."));
  weight.add("trajectory", trajectory, of("how points move."));
}

void WorldModelObjectiveSettings::declare_targets(SettingsScope scope) {
  scope.add("normalise_patches", normalise_patches,
            {.help = "Dream pixels with mean and deviation of each patch taken out."});
  scope.add("dynamic_mean", dynamic_mean,
            {.help = "The loss of what moves is a mean over all patches, as published, or over "
                     "those that moved.",
             .choices = {"all", "masked"}});
  scope.add("silog_lambda", silog_lambda,
            {.help = "How far the loss of depth forgives a wrong scale; 1 = wholly.",
             .min = 0,
             .max = 1});
  scope.add("teacher", teacher,
            {.help = "Teacher whose features semantic queries dream of; empty = the simulator's "
                     "segmentation."});
  scope.add("semantic_loss", semantic_loss,
            {.help = "Cosine distance, as the published code has it, or InfoNCE among the "
                     "targets of a step on all ranks, as the paper has.",
             .choices = {"cosine", "info_nce"}});
  scope.add("temperature", temperature, {.help = "Of InfoNCE.", .min = 1e-4, .max = 100});
  scope.add("feature_memory_mib", feature_memory_mib,
            {.help = "Teacher features of frames that are kept for the next time, at most.",
             .unit = "MiB",
             .min = 0,
             .max = 1e7});
}

void WorldModelObjectiveSettings::validate(const RunConfig& config,
                                           const std::string& where) const {
  if (!teacher.empty()) config.teacher_named(teacher, where + ".teacher");
}

double WorldModelObjectiveSettings::weight_of(const std::string& loss) const {
  if (loss == "action") return action;
  if (loss == "dynamic") return dynamic;
  if (loss == "trajectory") return trajectory;
  return loss == "depth" ? depth : semantic;
}

}  // namespace espalier
