#include "models/attention/key_value_cache.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

namespace espalier {
namespace {

// Columns of one sequence whose first row is `row`: `padding` that hold nothing, tokens before
// `first`, and from there on new ones, which see the tokens before them.
void add_sequence(std::vector<MaskGroup>& groups, int64_t row, int64_t padding, int64_t first,
                  int64_t count) {
  const auto add = [&](int64_t begin, int64_t end, MaskGroup group) {
    if (begin >= end) return;
    group.first = row + begin;
    group.length = end - begin;
    groups.push_back(std::move(group));
  };
  MaskGroup memory;
  memory.rule = MaskRule::kNone;
  memory.asks = false;
  add(0, std::min(padding, first), memory);
  // New columns that hold nothing ask too, as the rows of a batch do; nobody reads the answer.
  add(std::max<int64_t>(first, 0), std::min(padding, first + count), MaskGroup());
  MaskGroup fresh;
  if (padding < first) {
    fresh.sees = {std::ssize(groups)};
    add(padding, first, memory);
  }
  add(std::max(padding, first), first + count, fresh);
}

}  // namespace

KeyValueCache::KeyValueCache(int64_t layers, std::vector<int64_t> padding, int64_t capacity)
    : layers_(static_cast<size_t>(layers)), padding_(std::move(padding)), capacity_(capacity) {}

CacheView KeyValueCache::extend(int64_t count) {
  const int64_t end = length_ + count;
  TORCH_CHECK(end <= capacity_, "the key-value cache holds ", capacity_, " tokens per sequence, ",
              end, " are needed");
  const auto batch = std::ssize(padding_);
  const bool are_alike = std::all_of(padding_.begin(), padding_.end(),
                                     [&](int64_t padding) { return padding == padding_.front(); });
  std::vector<MaskGroup> groups;
  for (int64_t b = 0; b < (are_alike ? 1 : batch); ++b) {
    add_sequence(groups, b * end, padding_[static_cast<size_t>(b)], length_, count);
  }
  const AttentionMask mask(std::move(groups));
  CacheView view{batch, length_, count, are_alike ? mask.repeated(batch) : mask};
  length_ = end;
  return view;
}

}  // namespace espalier
