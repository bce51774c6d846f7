#include "trainer/models/sequences.h"

namespace espalier {
namespace {

constexpr int64_t kImage = int64_t{1} << 32;

}  // namespace

void SequencePacker::add_text(int64_t id) {
  sources_.push_back(~static_cast<int64_t>(text_ids_.size()));
  text_ids_.push_back(id);
  ++row_;
}

void SequencePacker::add_mark(int64_t mark) {
  sources_.push_back(mark);
  ++row_;
}

void SequencePacker::add_image(int64_t positions) {
  for (int64_t p = 0; p < positions; ++p) {
    sources_.push_back(kImage + static_cast<int64_t>(positions_.size()));
    positions_.push_back(p);
    pictures_.push_back(picture_);
  }
  row_ += positions;
  ++picture_;
}

void SequencePacker::add_prompt(const std::vector<int64_t>& prompt) {
  for (const int64_t id : prompt) {
    if (id != kPicture) {
      add_text(id);
      continue;
    }
    add_mark(kBeginOfImage);
    add_image(image_positions_);
    add_mark(kEndOfImage);
  }
}

void SequencePacker::add_read(const std::vector<int64_t>& prompt,
                              const std::vector<int64_t>& answer, bool with_targets) {
  const int64_t start = row_;
  add_prompt(prompt);
  for (size_t i = 0; with_targets && i <= answer.size(); ++i) {
    target_rows_.push_back(row_ - 1);
    targets_.push_back(i < answer.size() ? answer[i] : tokens_.end);
    if (i < answer.size()) add_text(answer[i]);
  }
  lengths_.push_back(row_ - start);
}

void SequencePacker::add_draw(const std::vector<int64_t>& prompt) {
  const int64_t start = row_;
  add_prompt(prompt);
  add_mark(kBeginOfImage);
  drawn_.push_back(picture_);
  add_image(image_positions_ - 1);
  for (int64_t p = 0; p < image_positions_; ++p) {
    target_rows_.push_back(row_ - image_positions_ + p);
  }
  lengths_.push_back(row_ - start);
}

TokenRows SequencePacker::rows() const {
  const auto texts = static_cast<int64_t>(text_ids_.size());
  std::vector<int64_t> sources;
  sources.reserve(sources_.size());
  for (const int64_t s : sources_) {
    if (s < 0) {
      sources.push_back(kFirstText + ~s);
    } else if (s >= kImage) {
      sources.push_back(kFirstText + texts + (s - kImage));
    } else {
      sources.push_back(s);
    }
  }
  TokenRows rows;
  rows.text_ids = torch::tensor(text_ids_, at::kLong);
  rows.positions = torch::tensor(positions_, at::kLong);
  rows.pictures = torch::tensor(pictures_, at::kLong);
  rows.sources = torch::tensor(sources, at::kLong);
  rows.mask = AttentionMask::from_lengths(lengths_);
  return rows;
}

at::Tensor SequencePacker::target_rows() const { return torch::tensor(target_rows_, at::kLong); }

at::Tensor SequencePacker::drawn() const { return torch::tensor(drawn_, at::kLong); }

at::Tensor SequencePacker::targets() const { return torch::tensor(targets_, at::kLong); }

}  // namespace espalier
