#include "models/attention/attention_mask.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "models/attention/attention_plan.h"
#include "models/attention/kernel_plan.h"
#include "models/layers/packed_upload.h"

namespace espalier {

struct AttentionMask::Table {
  std::vector<MaskGroup> groups;
  int64_t rows = 0;
  int64_t queries = 0;
  int64_t longest = 0;
  int64_t positions = 0;
  bool is_causal = true;
  bool is_separate = true;
  mutable std::once_flag planned;
  mutable std::shared_ptr<const AttentionPlan> plan;
  mutable std::once_flag kernel_planned;
  mutable std::shared_ptr<const KernelPlan> kernel_plan;
  // By device, of those that are not the CPU.
  mutable std::mutex devices;
  mutable std::map<std::string, std::shared_ptr<const AttentionPlan>> device_plans;
  mutable std::map<std::string, at::Tensor> device_dense;
};

namespace {

constexpr size_t kGroupsPrinted = 16;

const char* name_of(MaskRule rule) {
  return rule == MaskRule::kCausal ? "causal " : rule == MaskRule::kFull ? "full " : "query ";
}

std::string to_string(const MaskGroup& group) {
  std::string text = group.asks ? name_of(group.rule) : "memory ";
  text += std::to_string(group.first);
  if (group.length > 1 && group.stride != 1) {
    text += "," + std::to_string(group.first + group.stride);
  }
  if (group.length > 1) {
    text += ".." + std::to_string(group.first + (group.length - 1) * group.stride);
  }
  for (size_t i = 0; i < group.sees.size(); ++i) {
    text += (i == 0 ? " sees " : " ") + std::to_string(group.sees[i]);
  }
  return text;
}

void check(const MaskGroup& group, int64_t rows) {
  TORCH_CHECK(group.length > 0, "an attention mask has an empty group at row ", group.first);
  const int64_t last = group.first + (group.length - 1) * group.stride;
  TORCH_CHECK(group.first >= 0 && group.stride > 0 && last < rows, "attention mask: group \"",
              to_string(group), "\" leaves the ", rows, " rows that the groups have tokens for");
}

void check_sight(const std::vector<MaskGroup>& groups, int64_t number) {
  const MaskGroup& group = groups[static_cast<size_t>(number)];
  std::vector<bool> is_seen(groups.size());
  for (const int64_t other : group.sees) {
    TORCH_CHECK(other >= 0 && other < static_cast<int64_t>(groups.size()) && other != number,
                "attention mask: group ", number, " \"", to_string(group), "\" sees group ", other,
                ", which is not another of the ", groups.size(), " groups");
    TORCH_CHECK(!is_seen[static_cast<size_t>(other)], "attention mask: group ", number, " \"",
                to_string(group), "\" sees group ", other, " twice");
    is_seen[static_cast<size_t>(other)] = true;
  }
  TORCH_CHECK(!group.asks || group.rule != MaskRule::kNone || !group.sees.empty(),
              "attention mask: group ", number, " \"", to_string(group),
              "\" sees nothing: its softmax would have nothing to sum");
  TORCH_CHECK(group.asks || group.sees.empty(), "attention mask: group ", number, " \"",
              to_string(group), "\" does not ask, but sees others");
}

// Rows that a token of each place of a group sees of its own group, summed.
int64_t own_pairs(const MaskGroup& group) {
  switch (group.rule) {
    case MaskRule::kCausal:
      return group.length * (group.length + 1) / 2;
    case MaskRule::kFull:
      return group.length * group.length;
    case MaskRule::kNone:
      return 0;
  }
  return 0;
}

}  // namespace

std::vector<int64_t> rows_of(const MaskGroup& group) {
  std::vector<int64_t> rows(static_cast<size_t>(group.length));
  for (int64_t t = 0; t < group.length; ++t) {
    rows[static_cast<size_t>(t)] = group.first + t * group.stride;
  }
  return rows;
}

std::vector<int64_t> positions_of_rows(const std::vector<MaskGroup>& groups) {
  int64_t rows = 0;
  for (const MaskGroup& group : groups) rows += group.length;
  std::vector<int64_t> positions(static_cast<size_t>(rows));
  for (const MaskGroup& group : groups) {
    int64_t position = group.position;
    for (const int64_t row : rows_of(group)) positions[static_cast<size_t>(row)] = position++;
  }
  return positions;
}

AttentionMask::AttentionMask() : AttentionMask(std::vector<MaskGroup>{}) {}

AttentionMask::AttentionMask(std::vector<MaskGroup> groups) {
  auto table = std::make_shared<Table>();
  for (MaskGroup& group : groups) {
    std::sort(group.sees.begin(), group.sees.end());
    const bool is_alone = group.sees.empty() && group.asks && group.rule != MaskRule::kNone;
    table->rows += group.length;
    table->queries += group.asks ? group.length : 0;
    table->longest = std::max(table->longest, group.length);
    table->positions = std::max(table->positions, group.position + group.length);
    table->is_separate = table->is_separate && is_alone;
    table->is_causal = table->is_causal && is_alone && group.rule == MaskRule::kCausal;
  }
  // As many tokens as rows, inside the rows, none twice: then every row has its token.
  std::vector<bool> is_taken;
  for (size_t number = 0; number < groups.size(); ++number) {
    const MaskGroup& group = groups[number];
    check(group, table->rows);
    check_sight(groups, static_cast<int64_t>(number));
    is_taken.resize(static_cast<size_t>(table->rows));
    for (const int64_t row : rows_of(group)) {
      TORCH_CHECK(!is_taken[static_cast<size_t>(row)], "attention mask: row ", row,
                  " is in two groups, the second is \"", to_string(group), "\"");
      is_taken[static_cast<size_t>(row)] = true;
    }
  }
  table->groups = std::move(groups);
  table_ = std::move(table);
}

AttentionMask AttentionMask::from_lengths(const std::vector<int64_t>& lengths, MaskRule rule) {
  std::vector<MaskGroup> groups;
  groups.reserve(lengths.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    groups.push_back({.first = first, .length = length, .rule = rule});
    first += length;
  }
  return AttentionMask(std::move(groups));
}

AttentionMask AttentionMask::position_major(int64_t count, int64_t length, MaskRule rule) {
  std::vector<MaskGroup> groups;
  groups.reserve(static_cast<size_t>(count));
  for (int64_t s = 0; s < count; ++s) {
    groups.push_back({.first = s, .stride = count, .length = length, .rule = rule});
  }
  return AttentionMask(std::move(groups));
}

AttentionMask AttentionMask::repeated(int64_t count) const {
  TORCH_CHECK(count > 0, "an attention mask is repeated at least once, got ", count);
  AttentionMask more = *this;
  more.samples_ *= count;
  return more;
}

const std::vector<MaskGroup>& AttentionMask::groups() const { return table_->groups; }
int64_t AttentionMask::sample_rows() const { return table_->rows; }
int64_t AttentionMask::sample_queries() const { return table_->queries; }
int64_t AttentionMask::longest() const { return table_->longest; }
int64_t AttentionMask::positions() const { return table_->positions; }
bool AttentionMask::is_causal() const { return table_->is_causal; }
bool AttentionMask::is_separate() const { return table_->is_separate; }

int64_t AttentionMask::blocks() const {
  int64_t blocks = 0;
  for (const MaskGroup& group : groups()) {
    if (!group.asks) continue;
    blocks += static_cast<int64_t>(group.sees.size()) + (group.rule == MaskRule::kNone ? 0 : 1);
  }
  return samples_ * blocks;
}

int64_t AttentionMask::visible() const {
  int64_t pairs = 0;
  for (const MaskGroup& group : groups()) {
    if (!group.asks) continue;
    pairs += own_pairs(group);
    for (const int64_t other : group.sees) {
      pairs += group.length * groups()[static_cast<size_t>(other)].length;
    }
  }
  return samples_ * pairs;
}

at::Tensor AttentionMask::dense() const {
  at::Tensor all = at::zeros({sample_rows(), sample_rows()}, at::kBool);
  std::vector<int64_t> asking;
  std::vector<at::Tensor> rows;
  for (const MaskGroup& group : groups()) rows.push_back(at::tensor(rows_of(group), at::kLong));
  for (size_t g = 0; g < groups().size(); ++g) {
    const MaskGroup& group = groups()[g];
    if (!group.asks) continue;
    const std::vector<int64_t> own = rows_of(group);
    asking.insert(asking.end(), own.begin(), own.end());
    for (const int64_t other : group.sees) {
      all.index_put_({rows[g].unsqueeze(1), rows[static_cast<size_t>(other)].unsqueeze(0)}, true);
    }
    if (group.rule == MaskRule::kNone) continue;
    const at::Tensor inside = at::ones({group.length, group.length}, at::kBool);
    all.index_put_({rows[g].unsqueeze(1), rows[g].unsqueeze(0)},
                   group.rule == MaskRule::kCausal ? inside.tril() : inside);
  }
  std::sort(asking.begin(), asking.end());
  return all.index_select(0, at::tensor(asking, at::kLong));
}

const AttentionPlan& AttentionMask::plan() const {
  std::call_once(table_->planned, [&] {
    table_->plan = std::make_shared<const AttentionPlan>(make_attention_plan(groups()));
  });
  return *table_->plan;
}

at::Tensor AttentionMask::dense(at::Device device) const {
  if (device.is_cpu()) return dense();
  const std::lock_guard lock(table_->devices);
  at::Tensor& kept = table_->device_dense[device.str()];
  if (kept.defined()) return kept;
  kept = dense();
  upload_together({&kept}, device);
  return kept;
}

const AttentionPlan& AttentionMask::plan(at::Device device) const {
  if (device.is_cpu()) return plan();
  const std::lock_guard lock(table_->devices);
  std::shared_ptr<const AttentionPlan>& kept = table_->device_plans[device.str()];
  if (!kept) kept = std::make_shared<const AttentionPlan>(on_device(plan(), device));
  return *kept;
}

const KernelPlan& AttentionMask::kernel_plan() const {
  std::call_once(table_->kernel_planned, [&] {
    table_->kernel_plan = std::make_shared<const KernelPlan>(make_kernel_plan(groups()));
  });
  return *table_->kernel_plan;
}

std::string to_string(const AttentionMask& mask) {
  std::string text;
  for (size_t i = 0; i < mask.groups().size() && i < kGroupsPrinted; ++i) {
    text += (i == 0 ? "" : ", ") + to_string(mask.groups()[i]);
  }
  if (mask.groups().size() > kGroupsPrinted) {
    text += ", and " + std::to_string(mask.groups().size() - kGroupsPrinted) + " more";
  }
  if (mask.samples() > 1) text += "; " + std::to_string(mask.samples()) + " samples";
  return text.empty() ? "no rows" : text;
}

std::ostream& operator<<(std::ostream& out, const AttentionMask& mask) {
  return out << to_string(mask);
}

}  // namespace espalier
