#include "trainer/conversation.h"

#include "trainer/errors.h"
#include "trainer/models/prompt.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_inference.h"
#include "trainer/objectives/draw/draw.h"

namespace espalier {
namespace {

AskedObjective asked_for_answers(const InferenceRun& run) {
  try {
    return last_of_kind(run, "converse");
  } catch (const ConfigError&) {
    return last_of_kind(run, "answer");
  }
}

YDecoder& model_of(const InferenceRun& run, const AskedObjective& asked) {
  return run.things->model_as<YDecoder>(asked.stage->trains, "the model of its stage");
}

bool reads_several(const InferenceRun& run) {
  for (const ModelConfig& model : run.config->models) {
    const auto* settings = dynamic_cast<const YDecoderSettings*>(model.settings.get());
    if (settings != nullptr && settings->max_pictures > 1) return true;
  }
  return false;
}

}  // namespace

void Conversation::show(const Image& picture) {
  if (!reads_several(run_)) forget();
  messages_.push_back({"user", {{.picture = std::ssize(pictures_)}}});
  pictures_.push_back(picture);
}

void Conversation::forget() {
  pictures_.clear();
  messages_.clear();
}

const Image& Conversation::last_picture() const {
  if (pictures_.empty()) throw ConfigError("no picture is shown yet: /image FILE shows one");
  return pictures_.back();
}

std::vector<Image> Conversation::fitted(const AskedObjective& asked,
                                        const std::vector<int64_t>& pictures) const {
  std::vector<Image> chosen;
  for (const int64_t i : pictures) chosen.push_back(pictures_[static_cast<size_t>(i)]);
  return fit_pictures(run_, asked, chosen);
}

std::string Conversation::ask(const std::string& question) {
  last_picture();
  const AskedObjective asked = asked_for_answers(run_);
  YDecoder& model = model_of(run_, asked);
  std::vector<Message> read = messages_;
  read.push_back({"user", {{.text = question}}});
  if (asked.objective->kind == "answer") {  // as it was trained
    read = {{"user", {{.picture = std::ssize(pictures_) - 1}, {.text = question}}}};
  }
  const Prompt prompt = prompt_after(model, read, /*is_drawn=*/false);
  const int64_t branch = model.module()->branch_index(asked.objective->settings->branch_name());
  const std::string answer =
      write_after(model, branch, prompt.ids, fitted(asked, prompt.pictures));
  messages_.push_back({"user", {{.text = question}}});
  messages_.push_back({"assistant", {{.text = answer}}});
  return answer;
}

std::string Conversation::caption() const { return caption_images(run_, {last_picture()}).front(); }

Image Conversation::draw(const std::string& text, uint64_t seed) {
  const AskedObjective asked = last_of_kind(run_, "draw");
  const auto& settings = settings_as<DrawSettings>(asked.objective->settings);
  if (!settings.is_of_messages()) return draw_texts(run_, {text}, seed).front();
  YDecoder& model = model_of(run_, asked);
  messages_.push_back({"user", {{.text = text}}});
  const Prompt prompt = prompt_after(model, messages_, /*is_drawn=*/true);
  at::Tensor sums;
  if (!prompt.pictures.empty()) {
    const ImageCodes codes = encode_pictures(model, fitted(asked, prompt.pictures));
    sums = sum_codes(model.codebooks(), codes.codes).select(0, model.codebooks().size(0) - 1);
  }
  const Image drawn =
      draw_pictures(model, model.module()->branch_index(settings.branch),
                    {draw_prompt(model.text().tokens(), settings, prompt.ids, sums)},
                    settings.sampling, seed)
          .front();
  messages_.push_back({"assistant", {{.picture = std::ssize(pictures_)}}});
  pictures_.push_back(drawn);
  return drawn;
}

}  // namespace espalier
