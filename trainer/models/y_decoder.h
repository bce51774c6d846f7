#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "models/decoder/y_model.h"
#include "trainer/models/model.h"
#include "trainer/models/y_decoder_settings.h"
#include "trainer/named/image_codes.h"
#include "trainer/named/text_vocabulary.h"

namespace espalier {

class NamedThings;
class ResidualImageTokenizer;
struct ModelConfig;

// UniFork's decoder as a model of a run: a shared trunk, then a branch per task, over sequences of
// text and of images in the codes of a frozen image tokenizer.
class YDecoder : public Model {
 public:
  YDecoder(const ModelConfig& config, NamedThings& things);

  std::vector<ParameterGroup> parameter_groups() override;
  TensorMap state() override;
  void weights_updated() override;
  void state_changed() override;

  YModel& module() { return module_; }
  at::Device device() const { return device_; }
  ResidualImageTokenizer& image_tokenizer() const { return image_tokenizer_; }
  const std::string& image_tokenizer_name() const { return image_tokenizer_name_; }
  const TextVocabulary& text() const { return text_; }
  const at::Tensor& codebooks() const { return codebooks_; }  // scaled, pixel stages
  int64_t image_positions() const { return module_->options().image_positions; }
  // Token ids; ConfigError when the text has more than max_text_tokens.
  std::vector<int64_t> encode(const std::string& text) const;
  // The same of training data: what is longer is cut, said the first time, and counted. Any thread.
  std::vector<int64_t> encode_cut(const std::string& text) const;
  int64_t texts_cut() const { return texts_cut_; }
  // Says, the first time, that a conversation has more pictures than a sequence. Any thread.
  void note_pictures_cut() const;
  int64_t max_text_tokens() const { return max_text_tokens_; }  // of encode(), and when writing
  int64_t max_pictures() const { return max_pictures_; }        // of one sequence

  TokenRows to_device(TokenRows rows) const;
  // Image inputs of rows that say of which pictures they are: `codes` (pictures, positions,
  // stages); `semantics` (pictures, positions, channels), for branches that only read, undefined =
  // none.
  void set_image_inputs(TokenRows& rows, const at::Tensor& codes,
                        const at::Tensor& semantics) const;
  // Logits (stages, targets, codes) of a branch that draws; code_sums (stages, targets, channels).
  at::Tensor draw_logits(const TokenRows& rows, int64_t branch, const at::Tensor& target_rows,
                         const at::Tensor& code_sums);

 private:
  std::string name_;
  std::string image_tokenizer_name_;
  at::Device device_;
  ResidualImageTokenizer& image_tokenizer_;
  const TextVocabulary& text_;
  int64_t max_text_tokens_, max_pictures_;
  mutable std::atomic<int64_t> texts_cut_ = 0;
  mutable std::atomic<bool> were_pictures_cut_ = false;
  at::Tensor codebooks_;
  YModel module_{nullptr};
};

// The name of a parameter group of a branch: "branch.generation".
std::string branch_group(const std::string& branch);

}  // namespace espalier
