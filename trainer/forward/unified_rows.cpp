#include "trainer/forward/unified_rows.h"

#include <string>
#include <vector>

#include <torch/torch.h>

namespace espalier {
namespace {

bool is_text(const YModelOptions& o, int64_t branch) {
  return o.branches.at(static_cast<size_t>(branch)).head == BranchHead::kText;
}

int64_t read_branch(const ForwardInputs& in, const YModelOptions& o) {
  const at::Tensor branch = in.integers("branch", {1});
  std::string known;
  for (size_t i = 0; i < o.branches.size(); ++i) {
    known += (i > 0 ? ", " : "") + std::to_string(i) + " = " + o.branches[i].name +
             (is_text(o, static_cast<int64_t>(i)) ? " (text)" : " (codes)");
  }
  in.expect_range("branch", branch, 0, std::ssize(o.branches), "one of " + known);
  return branch.item<int64_t>();
}

at::Tensor read_mask(const ForwardInputs& in, const std::vector<int64_t>& shape) {
  if (!in.has("attention_mask")) return at::ones(shape, at::kBool);
  const at::Tensor mask = in.integers("attention_mask", shape).ne(0);
  const at::Tensor goes_on = mask.narrow(1, 1, shape[1] - 1);
  const at::Tensor before = mask.narrow(1, 0, shape[1] - 1);
  if (goes_on.logical_and(before.logical_not()).any().item<bool>()) {
    in.refuse("attention_mask", "has a 1 behind a 0, expected padding at the right alone");
  }
  if (!mask.select(1, 0).all().item<bool>()) {
    in.refuse("attention_mask", "has a sequence of padding alone, expected a 1 in each");
  }
  return mask;
}

at::Tensor read_codes(const ForwardInputs& in, const YModelOptions& o, int64_t stages,
                      int64_t pictures) {
  if (pictures == 0 && !in.has("codes")) {
    return at::empty({0, o.image_positions, stages}, at::kLong);
  }
  const at::Tensor codes = in.integers("codes", {-1, o.image_positions, stages});
  if (codes.size(0) != pictures) {
    in.refuse("codes", "has " + std::to_string(codes.size(0)) + " pictures, expected " +
                           std::to_string(pictures) + ", as many as input_ids has of -1");
  }
  in.expect_range("codes", codes, 0, o.codebook_size,
                  "codes from 0 to " + std::to_string(o.codebook_size - 1));
  return codes;
}

void check_labels(const ForwardInputs& in, const UnifiedBatch& batch, const YModelOptions& o,
                  const std::string& ids) {
  const at::Tensor is_label = batch.labels.ne(kNoLabel);
  const at::Tensor is_picture = batch.ids.eq(kPicture).logical_and(batch.mask);
  if (is_label.logical_and(is_picture).any().item<bool>()) {
    in.refuse("labels", "has one where input_ids has a picture (-1), expected -100 there");
  }
  in.expect_range("labels", batch.labels.masked_select(is_label), 0, o.vocabulary_size,
                  "-100 or " + ids);
}

void check_drawn(const ForwardInputs& in, const UnifiedBatch& batch, const std::string& branch) {
  if (in.has("labels")) {
    in.refuse("labels", "is not read by branch " + branch +
                            ", which predicts the codes of the last picture of each sequence");
  }
  const at::Tensor last = batch.mask.sum(1, /*keepdim=*/true) - 1;
  const at::Tensor ends = batch.ids.gather(1, last).flatten();
  for (int64_t b = 0; b < ends.size(0); ++b) {
    const int64_t id = ends[b].item<int64_t>();
    if (id == kPicture) continue;
    in.refuse("input_ids", "ends with token " + std::to_string(id) + " in sequence " +
                               std::to_string(b) + ", expected a picture (-1), which branch " +
                               branch + " draws");
  }
}

// Row after row, as the packed matrix will have them. Rows of text are numbered before those of
// images, so their count is said beforehand.
class RowList {
 public:
  RowList(int64_t texts, int64_t image_positions)
      : positions_(image_positions), first_image_(kFirstText + texts) {}

  void add_text(int64_t id) {
    sources_.push_back(kFirstText + std::ssize(texts_));
    texts_.push_back(id);
  }
  void add_picture(int64_t picture) {
    sources_.push_back(kBeginOfImage);
    add_positions(picture, positions_);
    sources_.push_back(kEndOfImage);
  }
  // Up to the row that predicts its last position.
  void add_drawn(int64_t picture) {
    sources_.push_back(kBeginOfImage);
    add_positions(picture, positions_ - 1);
  }
  void end_sequence() {
    lengths_.push_back(count() - begin_);
    begin_ = count();
  }
  int64_t count() const { return std::ssize(sources_); }

  UnifiedRows take() const {
    UnifiedRows packed;
    packed.rows.text_ids = torch::tensor(texts_, at::kLong);
    packed.rows.positions = torch::tensor(image_positions_, at::kLong);
    packed.rows.sources = torch::tensor(sources_, at::kLong);
    packed.rows.mask = AttentionMask::from_lengths(lengths_);
    packed.image_rows = torch::tensor(image_rows_, at::kLong);
    return packed;
  }

 private:
  void add_positions(int64_t picture, int64_t count) {
    for (int64_t p = 0; p < count; ++p) {
      sources_.push_back(first_image_ + std::ssize(image_positions_));
      image_positions_.push_back(p);
      image_rows_.push_back(picture * positions_ + p);
    }
  }

  int64_t positions_, first_image_, begin_ = 0;
  std::vector<int64_t> texts_, image_positions_, sources_, image_rows_, lengths_;
};

}  // namespace

UnifiedBatch read_unified_batch(const ForwardInputs& in, const YModelOptions& o, int64_t stages) {
  in.expect_only({"branch", "input_ids", "attention_mask", "codes", "labels"});
  UnifiedBatch batch;
  batch.branch = read_branch(in, o);
  batch.ids = in.integers("input_ids", {-1, -1});
  if (batch.ids.numel() == 0) in.refuse("input_ids", "is empty");
  const std::vector<int64_t> shape = batch.ids.sizes().vec();
  batch.mask = read_mask(in, shape);
  const at::Tensor ids = batch.ids.masked_select(batch.mask);  // what padding has does not matter
  const std::string known = "ids below the vocabulary of " + std::to_string(o.vocabulary_size);
  in.expect_range("input_ids", ids, kPicture, o.vocabulary_size, "-1 (a picture) or " + known);
  batch.codes = read_codes(in, o, stages, ids.eq(kPicture).sum().item<int64_t>());
  if (!is_text(o, batch.branch)) {
    check_drawn(in, batch, o.branches.at(static_cast<size_t>(batch.branch)).name);
  } else if (in.has("labels")) {
    batch.labels = in.integers("labels", shape);
    check_labels(in, batch, o, known);
  }
  return batch;
}

UnifiedRows pack_unified(const UnifiedBatch& batch, const YModelOptions& o) {
  const bool writes_text = is_text(o, batch.branch);
  const int64_t positions = o.image_positions, columns = batch.ids.size(1);
  const at::Tensor lengths = batch.mask.sum(1);
  const at::Tensor is_word = batch.ids.ne(kPicture).logical_and(batch.mask);
  RowList list(is_word.sum().item<int64_t>(), positions);
  std::vector<int64_t> asked, cells, drawn;
  int64_t picture = 0;
  const auto ids = batch.ids.accessor<int64_t, 2>();
  for (int64_t b = 0; b < batch.ids.size(0); ++b) {
    const int64_t length = lengths[b].item<int64_t>();
    for (int64_t t = 0; t < length; ++t) {
      const bool is_drawn = !writes_text && t + 1 == length;
      if (ids[b][t] != kPicture) {
        list.add_text(ids[b][t]);
      } else if (is_drawn) {
        drawn.push_back(picture);
        list.add_drawn(picture++);
      } else {
        list.add_picture(picture++);
      }
      const int64_t first = is_drawn ? list.count() - positions : list.count() - 1;
      const int64_t cell = is_drawn ? b * positions : b * columns + t;
      for (int64_t row = first; (is_drawn || writes_text) && row < list.count(); ++row) {
        asked.push_back(row);
        cells.push_back(cell + row - first);
      }
    }
    list.end_sequence();
  }
  UnifiedRows packed = list.take();
  packed.asked = torch::tensor(asked, at::kLong);
  packed.cells = {torch::tensor(cells, at::kLong), batch.ids.size(0),
                  writes_text ? columns : positions};
  if (!writes_text) packed.drawn_pictures = torch::tensor(drawn, at::kLong);
  return packed;
}

}  // namespace espalier
