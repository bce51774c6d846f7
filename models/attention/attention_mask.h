#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

struct AttentionPlan;
struct KernelPlan;

// What a token sees of its own group.
enum class MaskRule {
  kCausal,  // itself and the tokens before it
  kFull,    // every token
  kNone,    // nothing, not even itself
};

// Some rows of a packed matrix that are tokens of one group: token t is row first + t * stride.
struct MaskGroup {
  int64_t first = 0;
  int64_t stride = 1;
  int64_t length = 0;  // tokens
  MaskRule rule = MaskRule::kCausal;
  std::vector<int64_t> sees = {};  // numbers of other groups: all of their tokens
  int64_t position = 0;            // rotary position of its first token
  bool asks = true;                // false: it is seen, but has no query and no output

  bool operator==(const MaskGroup&) const = default;
};
std::vector<int64_t> rows_of(const MaskGroup& group);
// Rotary position of each row that the groups have.
std::vector<int64_t> positions_of_rows(const std::vector<MaskGroup>& groups);

// Who sees whom in a packed matrix, as a table of groups against groups: O(groups^2), whatever the
// number of tokens. Attention (packed_attention.h) turns it into whatever its kernels want, once
// for all layers and steps. Every row belongs to exactly one group. A text is a causal group; a
// packed batch is one group for each document; an image between texts is a full group that sees the
// groups before it (mask_description.h writes such tables from rules).
//
// A value: copies share the table, which never changes.
class AttentionMask {
 public:
  AttentionMask();  // of a matrix without rows
  // Throws c10::Error naming the group when one is empty, when the groups do not cover rows
  // 0 .. rows()-1 once each, when a group sees itself, one twice or one that is not there, and when
  // a group that asks sees nothing.
  explicit AttentionMask(std::vector<MaskGroup> groups);

  // Sequence after sequence.
  static AttentionMask from_lengths(const std::vector<int64_t>& lengths,
                                    MaskRule rule = MaskRule::kCausal);
  // `count` sequences of `length`; token t of sequence s is row t * count + s. The rows of one
  // token position are contiguous, which suits heads that differ by position.
  static AttentionMask position_major(int64_t count, int64_t length,
                                      MaskRule rule = MaskRule::kCausal);

  // `count` samples of this one mask, one after another, none of which sees another.
  AttentionMask repeated(int64_t count) const;

  // Of one sample; the others are the same, sample_rows() further on each.
  const std::vector<MaskGroup>& groups() const;
  int64_t samples() const { return samples_; }
  int64_t sequences() const { return samples_ * static_cast<int64_t>(groups().size()); }
  int64_t sample_rows() const;
  int64_t sample_queries() const;  // rows of groups that ask
  int64_t rows() const { return samples_ * sample_rows(); }
  int64_t queries() const { return samples_ * sample_queries(); }
  int64_t longest() const;    // tokens of the longest group
  bool is_causal() const;     // in every group, and none sees another
  bool is_separate() const;   // no group sees another, and all ask
  int64_t positions() const;  // one more than the largest rotary position
  // Pairs (group, group seen), own group included where it sees itself.
  int64_t blocks() const;
  int64_t visible() const;  // pairs (row, row seen)

  // (sample_queries, sample_rows) bool: 1 where a query sees a row. O(T^2): for tests, pictures and
  // kernels that know no groups.
  at::Tensor dense() const;
  // Kept, where the device is not the CPU.
  at::Tensor dense(at::Device device) const;

  // Derived once, by whoever asks first: pieces for LibTorch's fused kernels (attention_plan.h),
  // and ranges for the project's own kernel (kernel_plan.h).
  const AttentionPlan& plan() const;
  // The same with its indices on a device, where they travel together and once.
  const AttentionPlan& plan(at::Device device) const;
  // Makes what attention on a device will ask for: so that a thread that loads does it.
  void prepare(at::Device device) const {
    if (!device.is_cpu()) plan(device);
  }
  const KernelPlan& kernel_plan() const;

  bool operator==(const AttentionMask& other) const {
    return samples_ == other.samples_ && groups() == other.groups();
  }

 private:
  struct Table;
  std::shared_ptr<const Table> table_;
  int64_t samples_ = 1;
};

// "causal 0..4, full 5..7 sees 0, causal 8,11..17" (first row, second row if not the next, last
// row; numbers of groups seen); long masks are cut short.
std::string to_string(const AttentionMask& mask);
std::ostream& operator<<(std::ostream& out, const AttentionMask& mask);

}  // namespace espalier
