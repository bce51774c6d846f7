#pragma once

#include <cstdint>
#include <vector>

#include "models/decoder/y_model.h"
#include "trainer/named/text_vocabulary.h"

namespace espalier {

// Packs sequences for the Y-shaped model, without padding. A prompt is token ids, with kPicture
// where a picture stands: <image> positions.. </image>
//   read: prompt.. answer..                                    targets: the answer and the end
//   draw: prompt.. <image> positions..(all but the last)       targets: the codes of each position
class SequencePacker {
 public:
  SequencePacker(SequenceTokens tokens, int64_t image_positions)
      : tokens_(tokens), image_positions_(image_positions) {}

  // Without targets the sequence stops where the answer would begin, for decoding.
  void add_read(const std::vector<int64_t>& prompt, const std::vector<int64_t>& answer,
                bool with_targets = true);
  void add_draw(const std::vector<int64_t>& prompt);

  // Everything but code_sums and semantics, which are of the pictures in the order of the calls: of
  // each sequence those of its prompt, then the one that is drawn.
  TokenRows rows() const;
  // Rows whose hidden state predicts something, and, for add_read, the text ids they predict.
  at::Tensor target_rows() const;
  at::Tensor targets() const;
  int64_t target_count() const { return static_cast<int64_t>(target_rows_.size()); }
  // Which of the pictures are drawn, (sequences) int64.
  at::Tensor drawn() const;

 private:
  void add_prompt(const std::vector<int64_t>& prompt);
  void add_text(int64_t id);
  void add_mark(int64_t mark);
  void add_image(int64_t positions);

  SequenceTokens tokens_;
  int64_t image_positions_;
  int64_t row_ = 0, picture_ = 0;
  std::vector<int64_t> text_ids_, positions_, pictures_, lengths_, target_rows_, targets_, drawn_;
  // Per row: an image mark (0, 1), or ~k for the k-th text token, or kImage + k for the k-th image
  // position; text comes first in the final numbering, and its count is known only at the end.
  std::vector<int64_t> sources_;
};

}  // namespace espalier
