#include "trainer/models/prompt.h"

namespace espalier {
namespace {

class PromptWriter {
 public:
  explicit PromptWriter(const YDecoder& model) : model_(model), tokens_(model.text().tokens()) {}

  void add_message(const Message& message) {
    if (message.is_assistant()) {
      begin_answer();
      for (const MessagePart& part : message.parts) add_answer_part(part);
      return;
    }
    bool is_said = false;
    for (const MessagePart& part : message.parts) {
      if (part.is_picture()) {
        add_picture(part.picture);
        continue;
      }
      if (!is_said) prompt_.ids.push_back(tokens_.question);
      is_said = true;
      add_text(part.text);
    }
  }

  void begin_answer() { prompt_.ids.push_back(tokens_.answer); }
  void begin_drawing() { prompt_.ids.push_back(tokens_.draw); }

  void add_answer_part(const MessagePart& part) {
    if (!part.is_picture()) return add_text(part.text);
    begin_drawing();
    add_picture(part.picture);
  }

  // At most so many pictures, and as many tokens as a text has: what came first is left out.
  Prompt take(int64_t most_pictures) {
    int64_t tokens = std::ssize(prompt_.ids) - std::ssize(prompt_.pictures);
    int64_t pictures = std::ssize(prompt_.pictures);
    size_t first = 0;
    if (pictures > most_pictures) model_.note_pictures_cut();
    while (tokens > model_.max_text_tokens() || pictures > most_pictures) {
      --(prompt_.ids[first++] == kPicture ? pictures : tokens);
    }
    prompt_.ids.erase(prompt_.ids.begin(),
                      prompt_.ids.begin() + static_cast<std::ptrdiff_t>(first));
    prompt_.pictures.erase(prompt_.pictures.begin(), prompt_.pictures.end() - pictures);
    return std::move(prompt_);
  }

 private:
  void add_text(const std::string& text) {
    const std::vector<int64_t> ids = model_.encode_cut(text);
    prompt_.ids.insert(prompt_.ids.end(), ids.begin(), ids.end());
  }
  void add_picture(int64_t picture) {
    prompt_.ids.push_back(kPicture);
    prompt_.pictures.push_back(picture);
  }

  const YDecoder& model_;
  const SequenceTokens& tokens_;
  Prompt prompt_;
};

}  // namespace

std::vector<MessagePlace> assistant_parts(const std::vector<Message>& messages, bool is_picture) {
  std::vector<MessagePlace> places;
  for (size_t m = 0; m < messages.size(); ++m) {
    if (!messages[m].is_assistant()) continue;
    for (size_t p = 0; p < messages[m].parts.size(); ++p) {
      if (messages[m].parts[p].is_picture() == is_picture) places.push_back({m, p});
    }
  }
  return places;
}

Prompt prompt_before(const YDecoder& model, const std::vector<Message>& messages,
                     MessagePlace place) {
  PromptWriter writer(model);
  for (size_t m = 0; m < place.message; ++m) writer.add_message(messages[m]);
  const std::vector<MessagePart>& parts = messages[place.message].parts;
  writer.begin_answer();
  for (size_t p = 0; p < place.part; ++p) writer.add_answer_part(parts[p]);
  const bool is_drawn = parts[place.part].is_picture();
  if (is_drawn) writer.begin_drawing();
  return writer.take(model.max_pictures() - (is_drawn ? 1 : 0));
}

Prompt prompt_after(const YDecoder& model, const std::vector<Message>& messages, bool is_drawn) {
  PromptWriter writer(model);
  for (const Message& message : messages) writer.add_message(message);
  writer.begin_answer();
  if (is_drawn) writer.begin_drawing();
  return writer.take(model.max_pictures() - (is_drawn ? 1 : 0));
}

}  // namespace espalier
