#include "trainer/conversation.h"

#include "trainer/errors.h"
#include "trainer/models/y_decoder.h"
#include "trainer/models/y_inference.h"

namespace espalier {
namespace {

AskedObjective asked_for_answers(const InferenceRun& run) {
  try {
    return last_of_kind(run, "converse");
  } catch (const ConfigError&) {
    return last_of_kind(run, "answer");
  }
}

void append(std::vector<int64_t>& prompt, int64_t mark, const std::vector<int64_t>& said) {
  prompt.push_back(mark);
  prompt.insert(prompt.end(), said.begin(), said.end());
}

}  // namespace

void Conversation::show(const Image& picture) {
  picture_ = picture;
  said_.clear();
}

const Image& Conversation::picture() const {
  if (picture_) return *picture_;
  throw ConfigError("no picture is shown yet: /image FILE shows one");
}

std::string Conversation::ask(const std::string& question) {
  const Image& shown = picture();
  const AskedObjective asked = asked_for_answers(run_);
  auto& model = run_.things->model_as<YDecoder>(asked.stage->trains, "the model of its stage");
  const SequenceTokens& tokens = model.text().tokens();
  std::vector<int64_t> prompt;
  if (asked.objective->kind == "converse") {
    for (const Said& said : said_) {
      append(prompt, tokens.question, model.encode_cut(said.question));
      append(prompt, tokens.answer, model.encode_cut(said.answer));
    }
  }
  append(prompt, tokens.question, model.encode_cut(question));
  prompt.push_back(tokens.answer);
  // As in training: of a long conversation the end.
  const auto most = static_cast<size_t>(model.max_text_tokens());
  if (prompt.size() > most) {
    prompt.erase(prompt.begin(), prompt.end() - static_cast<std::ptrdiff_t>(most));
  }
  const int64_t branch = model.module()->branch_index(asked.objective->settings->branch_name());
  const std::string answer = write_about(model, branch, prompt, {shown}).front();
  said_.push_back({question, answer});
  return answer;
}

std::string Conversation::caption() const { return caption_images(run_, {picture()}).front(); }

Image Conversation::draw(const std::string& text, uint64_t seed) const {
  return draw_texts(run_, {text}, seed).front();
}

}  // namespace espalier
