#include "trainer/conversation.h"

#include "trainer/errors.h"
#include "trainer/models/prompt.h"
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
  talk_.show(picture);
}

void Conversation::forget() { talk_ = {}; }

const Image& Conversation::last_picture() const {
  if (talk_.pictures.empty()) throw ConfigError("no picture is shown yet: /image FILE shows one");
  return talk_.pictures.back();
}

std::string Conversation::ask(const std::string& question) {
  last_picture();
  const AskedObjective asked = asked_for_answers(run_);
  auto& model = run_.things->model_as<YDecoder>(asked.stage->trains, "the model of its stage");
  talk_.say(question);
  std::vector<Message> read = talk_.messages;
  if (asked.objective->kind == "answer") {  // as it was trained
    read = {{"user", {{.picture = std::ssize(talk_.pictures) - 1}, {.text = question}}}};
  }
  const Prompt prompt = prompt_after(model, read, /*is_drawn=*/false);
  std::vector<Image> shown;
  for (const int64_t i : prompt.pictures) shown.push_back(talk_.pictures[static_cast<size_t>(i)]);
  const int64_t branch = model.module()->branch_index(asked.objective->settings->branch_name());
  const std::string answer =
      write_after(model, branch, prompt.ids, fit_pictures(run_, asked, shown));
  talk_.messages.push_back({"assistant", {{.text = answer}}});
  return answer;
}

std::string Conversation::caption() const { return caption_images(run_, {last_picture()}).front(); }

Image Conversation::draw(const std::string& text, uint64_t seed) {
  const AskedObjective asked = last_of_kind(run_, "draw");
  if (!settings_as<DrawSettings>(asked.objective->settings).is_of_messages()) {
    Talk alone;
    alone.say(text);
    return draw_after(run_, {alone}, seed).front();
  }
  talk_.say(text);
  const Image drawn = draw_after(run_, {talk_}, seed).front();
  talk_.messages.push_back({"assistant", {{.picture = std::ssize(talk_.pictures)}}});
  talk_.pictures.push_back(drawn);
  return drawn;
}

}  // namespace espalier
