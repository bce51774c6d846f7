#pragma once

#include <cstdint>
#include <string>

#include "data/images/image.h"
#include "trainer/inference.h"

namespace espalier {

// Talking to a run: pictures are shown, questions about them are answered, and texts are drawn.
// What a run can do depends on what it was trained for; anything else is a ConfigError that names
// the objective that it lacks.
class Conversation {
 public:
  // `run` must outlive it.
  explicit Conversation(const InferenceRun& run) : run_(run) {}

  // From here on questions are about this picture, and about those before it where the model reads
  // several (max_pictures); where it reads one, what was said of another is forgotten.
  void show(const Image& picture);
  void forget();

  // Through the branch of the last objective of kind "converse", which reads all that was said and
  // shown before, or else of kind "answer", which reads the last picture and the question.
  // ConfigError while no picture is shown.
  std::string ask(const std::string& question);
  std::string caption() const;
  // Where the last objective of kind "draw" draws from conversations, all that was said and shown
  // before counts, and what is drawn is shown too; else the text alone.
  Image draw(const std::string& text, uint64_t seed);

 private:
  const Image& last_picture() const;

  const InferenceRun& run_;
  Talk talk_;
};

}  // namespace espalier
