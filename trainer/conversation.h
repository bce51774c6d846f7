#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/images/image.h"
#include "trainer/inference.h"

namespace espalier {

// Talking to a run: a picture is shown, questions about it are answered, and texts are drawn. What
// a run can do depends on what it was trained for; anything else is a ConfigError that names the
// objective that it lacks.
class Conversation {
 public:
  // `run` must outlive it.
  explicit Conversation(const InferenceRun& run) : run_(run) {}

  // From here on questions are about this picture; what was said of another is forgotten.
  void show(const Image& picture);

  // Through the branch of the last objective of kind "converse", which reads all that was said
  // before, or else of kind "answer", which reads the question alone. ConfigError while no picture
  // is shown.
  std::string ask(const std::string& question);
  std::string caption() const;
  Image draw(const std::string& text, uint64_t seed) const;

 private:
  struct Said {
    std::string question, answer;
  };
  const Image& picture() const;

  const InferenceRun& run_;
  std::optional<Image> picture_;
  std::vector<Said> said_;
};

}  // namespace espalier
