#include "trainer/inference.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/host/device.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_decoder.h"
#include "trainer/models/y_inference.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/stage.h"

namespace espalier {
namespace {

// The stage that trained each model last, among those the checkpoint has come to.
std::vector<int64_t> last_stages(const InferenceRun& run) {
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i <= run.stage_index; ++i) {
    const std::string& model = run.config->stages[static_cast<size_t>(i)].trains;
    std::erase_if(chosen, [&](int64_t earlier) {
      return run.config->stages[static_cast<size_t>(earlier)].trains == model;
    });
    chosen.push_back(i);
  }
  return chosen;
}

std::vector<int64_t> chosen_stages(const InferenceRun& run, const EvaluationChoice& choice) {
  if (choice.stages.empty()) return last_stages(run);
  std::vector<int64_t> chosen;
  for (const std::string& name : choice.stages) {
    const int64_t index = &run.config->stage_named(name) - run.config->stages.data();
    if (index > run.stage_index) {
      throw ConfigError(run.checkpoint.path + " has not come to stage " + name + " yet");
    }
    chosen.push_back(index);
  }
  return chosen;
}

void check_objectives(const InferenceRun& run, const EvaluationChoice& choice,
                      const std::vector<int64_t>& stages) {
  for (const std::string& name : choice.objectives) {
    std::string known;
    bool found = false;
    for (const int64_t i : stages) {
      for (const auto& objective : run.config->stages[static_cast<size_t>(i)].objectives) {
        found = found || objective.name == name;
        known += (known.empty() ? "" : ", ") + objective.name;
      }
    }
    if (!found) throw ConfigError("no objective is called " + name + "; there are " + known);
  }
}

}  // namespace

AskedObjective last_of_kind(const InferenceRun& run, const std::string& kind) {
  for (int64_t i = run.stage_index; i >= 0; --i) {
    const StageConfig& stage = run.config->stages[static_cast<size_t>(i)];
    for (const ObjectiveConfig& objective : stage.objectives) {
      if (objective.kind == kind) return {&stage, &objective};
    }
  }
  throw ConfigError(run.checkpoint.path + " has trained no objective of kind " + kind +
                    ": the run has not come to it yet, or its config has none");
}

InferenceRun load_for_inference(const InferenceRequest& request) {
  const std::string checkpoint = chosen_checkpoint(request.run, request.checkpoint);
  InferenceRun run;
  run.config =
      std::make_unique<RunConfig>(load_run_config(request.run + "/config.toml", request.sets));
  run.config->directory = request.run;  // it may have moved since
  for (DataConfig& set : run.config->data) {
    if (!request.data.empty()) set.test = request.data;
  }
  run.comm = make_single_communicator();
  run.checkpoint = load_checkpoint_at(*run.comm, checkpoint);
  run.stage_index = read_position(run.checkpoint, *run.config).stage_index;
  const at::Device device = choose_device(run.config->compute, 0);
  use_device(device, run.config->compute.deterministic);
  use_threads(run.config->compute, /*local_ranks=*/1);
  run.things = std::make_unique<NamedThings>(*run.config, *run.comm, device,
                                             /*for_training=*/false, request.on_work);
  restore_models(run.checkpoint, *run.things);
  const StageConfig& config = run.config->stages[static_cast<size_t>(run.stage_index)];
  Stage stage(*run.things, config, /*for_training=*/false);
  restore_average(run.checkpoint, config, *run.things, stage);
  return run;
}

std::vector<StageEvaluation> evaluate_run(const InferenceRun& run, const EvaluationChoice& choice) {
  const torch::NoGradGuard no_grad;
  std::filesystem::create_directories(choice.directory);
  const std::vector<int64_t> stages = chosen_stages(run, choice);
  check_objectives(run, choice, stages);
  std::vector<StageEvaluation> evaluations;
  for (const int64_t i : stages) {
    const StageConfig& config = run.config->stages[static_cast<size_t>(i)];
    Stage stage(*run.things, config, /*for_training=*/false);
    restore_objectives(run.checkpoint, stage);
    if (i == run.stage_index) restore_average(run.checkpoint, config, *run.things, stage);
    evaluations.push_back({config.name, stage.evaluate({.directory = choice.directory,
                                                        .picture_prefix = config.name + "-",
                                                        .is_final = true,
                                                        .split = "test"},
                                                       choice.objectives)});
  }
  return evaluations;
}

std::vector<Image> fit_pictures(const InferenceRun& run, const AskedObjective& asked,
                                const std::vector<Image>& pictures) {
  const auto& model = run.things->model_as<YDecoder>(asked.stage->trains, "the model of its stage");
  const auto size = static_cast<int>(model.image_tokenizer().options().image_size);
  const SquareFit fit =
      run.config->data_named(asked.objective->settings->data, "an objective").square_fit();
  std::vector<Image> fitted;
  for (const Image& picture : pictures) fitted.push_back(fit_square(picture, size, fit));
  return fitted;
}

std::vector<std::string> caption_images(const InferenceRun& run, const std::vector<Image>& images) {
  const AskedObjective found = last_of_kind(run, "caption");
  auto& model = run.things->model_as<YDecoder>(found.stage->trains, "the model of its stage");
  const int64_t branch = model.module()->branch_index(found.objective->settings->branch_name());
  return write_captions(model, branch, fit_pictures(run, found, images));
}

void Talk::show(const Image& picture) {
  messages.push_back({"user", {{.picture = std::ssize(pictures)}}});
  pictures.push_back(picture);
}

void Talk::say(const std::string& text) { messages.push_back({"user", {{.text = text}}}); }

std::vector<Image> draw_after(const InferenceRun& run, const std::vector<Talk>& talks,
                              uint64_t seed) {
  const AskedObjective asked = last_of_kind(run, "draw");
  auto& model = run.things->model_as<YDecoder>(asked.stage->trains, "the model of its stage");
  const auto& settings = settings_as<DrawSettings>(asked.objective->settings);
  std::vector<DrawPrompt> prompts;
  for (const Talk& talk : talks) {
    if (!settings.is_of_messages()) {
      if (!talk.pictures.empty()) {
        throw ConfigError(
            "the run draws from captions; drawing from pictures is learned by an "
            "objective of kind draw with condition = \"messages\"");
      }
      prompts.push_back(caption_prompt(model, settings, talk.messages.back().text()));
      continue;
    }
    const Prompt prompt = prompt_after(model, talk.messages, /*is_drawn=*/true);
    std::vector<Image> shown;
    for (const int64_t i : prompt.pictures) {
      shown.push_back(talk.pictures.at(static_cast<size_t>(i)));
    }
    at::Tensor sums;
    if (!shown.empty()) {
      const ImageCodes codes = encode_pictures(model, fit_pictures(run, asked, shown));
      sums = sum_codes(model.codebooks(), codes.codes).select(0, model.codebooks().size(0) - 1);
    }
    prompts.push_back(draw_prompt(model.text().tokens(), settings, prompt.ids, sums));
  }
  return draw_pictures(model, model.module()->branch_index(settings.branch), prompts,
                       settings.sampling, seed);
}

}  // namespace espalier
