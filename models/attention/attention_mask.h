#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace espalier {

// What a token sees of its own group.
enum class MaskRule {
  kCausal,  // itself and the tokens before it
  kFull,    // every token
};

// Some rows of a packed matrix that are tokens of one group: token t is row first + t * stride.
struct MaskGroup {
  int64_t first = 0;
  int64_t stride = 1;
  int64_t length = 0;  // tokens
  MaskRule rule = MaskRule::kCausal;

  bool operator==(const MaskGroup&) const = default;
};

// Who sees whom in a packed matrix, as a description: attention (packed_attention.h) turns it into
// whatever its kernels want. Every row belongs to exactly one group and sees rows of that group
// alone, as the group's rule says. Groups of any length lie in one matrix without padding, so row
// operations and matrix products work on real tokens only. Today a group is a sequence.
//
// A value: copies share the description, which never changes.
class AttentionMask {
 public:
  AttentionMask() = default;  // of a matrix without rows
  // Throws c10::Error naming the group when one is empty, or when the groups do not cover rows
  // 0 .. rows()-1 once each.
  explicit AttentionMask(std::vector<MaskGroup> groups);

  // Sequence after sequence.
  static AttentionMask from_lengths(const std::vector<int64_t>& lengths,
                                    MaskRule rule = MaskRule::kCausal);
  // `count` sequences of `length`; token t of sequence s is row t * count + s. The rows of one
  // token position are contiguous, which suits heads that differ by position.
  static AttentionMask position_major(int64_t count, int64_t length,
                                      MaskRule rule = MaskRule::kCausal);

  const std::vector<MaskGroup>& groups() const { return *groups_; }
  int64_t sequences() const { return static_cast<int64_t>(groups_->size()); }
  int64_t rows() const { return rows_; }
  int64_t longest() const { return longest_; }   // tokens of the longest sequence
  bool is_causal() const { return is_causal_; }  // in every group

  bool operator==(const AttentionMask& other) const { return groups() == other.groups(); }

 private:
  std::shared_ptr<const std::vector<MaskGroup>> groups_ =
      std::make_shared<const std::vector<MaskGroup>>();
  int64_t rows_ = 0;
  int64_t longest_ = 0;
  bool is_causal_ = true;
};

// "causal 0..4, full 5..7, causal 8,11..17" (first row, second row if not the next, last row); long
// masks are cut short.
std::string to_string(const AttentionMask& mask);
std::ostream& operator<<(std::ostream& out, const AttentionMask& mask);

}  // namespace espalier
