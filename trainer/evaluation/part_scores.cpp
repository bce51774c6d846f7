#include "trainer/evaluation/part_scores.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include <torch/torch.h>

#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/evaluation/ridge.h"

namespace espalier {
namespace {

// Against directions that training does not tell apart: all of one part up, all of another down.
constexpr double kPenalty = 1e-3;

at::Tensor one_hot(const at::Tensor& labels, const std::vector<int64_t>& classes) {
  std::vector<at::Tensor> columns;
  for (int64_t part = 0; part < labels.size(1); ++part) {
    columns.push_back(labels.select(1, part)
                          .unsqueeze(1)
                          .eq(at::arange(classes[static_cast<size_t>(part)]))
                          .to(at::kDouble));
  }
  return at::cat(columns, 1);
}

CombinationShare share_of(const PartRow& row, const at::Tensor& labels, int64_t column) {
  if (!row.chances) return share_by_combination(row.right.select(1, column), labels);
  return {.value = row.chances->select(1, column).mean().item<double>(),
          .standard_error = kUnknown};
}

std::string text_of(const CombinationShare& share) {
  const auto rounded = [](double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.3f", value);
    return std::string(text.data());
  };
  if (std::isnan(share.standard_error)) return rounded(share.value);
  return rounded(share.value) + " ± " + rounded(share.standard_error);
}

std::vector<std::string> cells_of(const PartRow& row, const PartGroup& group) {
  const int64_t columns = group.labels.size(1) + 1;
  std::vector<std::string> cells = {group.label, row.label, std::to_string(group.labels.size(0))};
  for (int64_t column = 0; column < columns; ++column) {
    cells.push_back(text_of(share_of(row, group.labels, column)));
  }
  return cells;
}

Metric metric_of(const PartGroup& group, const std::string& what, const std::string& part,
                 int64_t column) {
  const CombinationShare share = share_of(group.reached, group.labels, column);
  Metric metric{
      .name = group.name + "_" + part,
      .label = (column == 0 ? "all parts" : part) + " right in " + what + " of " + group.label,
      .value = share.value,
      .standard_error = share.standard_error};
  for (const PartRow& row : group.beside) {
    if (!row.is_baseline) continue;
    metric.baselines.push_back({row.label, share_of(row, group.labels, column).value});
  }
  return metric;
}

}  // namespace

at::Tensor parts_right(const at::Tensor& answers, const at::Tensor& wanted) {
  const at::Tensor right = answers.eq(wanted).logical_and_(wanted.ge(0));
  return at::cat({right.all(1, /*keepdim=*/true), right}, 1);
}

PartAnswers answers_from_features(const at::Tensor& training, const at::Tensor& training_labels,
                                  const at::Tensor& asked) {
  std::vector<at::Tensor> nearest, ridge;
  for (int64_t part = 0; part < training_labels.size(1); ++part) {
    const at::Tensor labels = training_labels.select(1, part).contiguous();
    const int64_t classes = labels.max().item<int64_t>() + 1;
    nearest.push_back(nearest_neighbour_answers(training, labels, asked, 1));
    ridge.push_back(fit_ridge(training, labels, classes).answers(asked));
  }
  return {at::stack(nearest, 1), at::stack(ridge, 1)};
}

at::Tensor sums_of_parts(const at::Tensor& training, const at::Tensor& training_labels,
                         const at::Tensor& asked_labels) {
  std::vector<int64_t> classes;
  for (int64_t part = 0; part < training_labels.size(1); ++part) {
    classes.push_back(training_labels.select(1, part).max().item<int64_t>() + 1);
  }
  const at::Tensor parts = one_hot(training_labels, classes);
  const at::Tensor pixels = training.to(at::kDouble);
  const at::Tensor mean = pixels.mean(0, /*keepdim=*/true);
  const at::Tensor scatter = parts.t().mm(parts) + kPenalty * at::eye(parts.size(1), at::kDouble);
  const at::Tensor weights = at::linalg_solve(scatter, parts.t().mm(pixels - mean));
  return (one_hot(asked_labels, classes).mm(weights) + mean).to(at::kFloat);
}

PictureJudge::PictureJudge(at::Tensor truth, at::Tensor labels)
    : truth_(std::move(truth)), labels_(std::move(labels)) {}

// Column 0 compares with every true picture, column 1 + p with those that share the other parts.
at::Tensor PictureJudge::candidates(const at::Tensor& wanted, int64_t column) const {
  at::Tensor are = at::ones({wanted.size(0), labels_.size(0)}, at::kBool);
  if (column == 0) return are;
  for (int64_t part = 0; part < labels_.size(1); ++part) {
    if (part + 1 == column) continue;
    are.logical_and_(wanted.select(1, part).unsqueeze(1).eq(labels_.select(1, part)));
  }
  return are;
}

at::Tensor PictureJudge::hits(const at::Tensor& wanted, int64_t column) const {
  const at::Tensor equal = wanted.unsqueeze(1).eq(labels_.unsqueeze(0));  // (M, N, parts)
  return column == 0 ? equal.all(2) : equal.select(2, column - 1);
}

at::Tensor PictureJudge::right(const at::Tensor& pictures, const at::Tensor& wanted) const {
  const at::Tensor distance = at::cdist(pictures.to(at::kFloat), truth_);
  std::vector<at::Tensor> columns;
  for (int64_t column = 0; column <= labels_.size(1); ++column) {
    const at::Tensor others = candidates(wanted, column).logical_not();
    const at::Tensor nearest =
        distance.masked_fill(others, std::numeric_limits<float>::infinity()).argmin(1, true);
    columns.push_back(hits(wanted, column).gather(1, nearest).squeeze(1));
  }
  return at::stack(columns, 1);
}

at::Tensor PictureJudge::chance(const at::Tensor& wanted) const {
  std::vector<at::Tensor> columns;
  for (int64_t column = 0; column <= labels_.size(1); ++column) {
    const at::Tensor compared = candidates(wanted, column);
    columns.push_back(compared.logical_and(hits(wanted, column)).to(at::kDouble).sum(1) /
                      compared.to(at::kDouble).sum(1));
  }
  return at::stack(columns, 1);
}

PartGroup part_group(PartPictures pictures, at::Tensor labels, at::Tensor right) {
  PartGroup group{.name = "training",
                  .label = "training pictures",
                  .labels = std::move(labels),
                  .reached = {.label = "the model", .right = std::move(right)}};
  if (pictures == PartPictures::kNew) {
    group.name = "new";
    group.label = "new pictures of seen combinations";
  } else if (pictures == PartPictures::kNeverSeen) {
    group.name = "never_seen";
    group.label = "never-seen combinations";
    group.is_headline = true;
  }
  return group;
}

void add_part_scores(Section& section, const Combinations& combinations, const std::string& what,
                     const std::vector<PartGroup>& groups) {
  Table table{.title = "Parts of " + what + ", ± standard error over combinations",
              .columns = {"pictures", "by", "number", "all parts"}};
  for (const std::string& part : combinations.parts()) table.columns.push_back(part);
  for (const PartGroup& group : groups) {
    if (group.labels.size(0) == 0) continue;
    table.rows.push_back(cells_of(group.reached, group));
    for (const PartRow& row : group.beside) table.rows.push_back(cells_of(row, group));
    section.metrics.push_back(metric_of(group, what, "all", 0));
    section.metrics.back().is_headline = group.is_headline;
    for (size_t part = 0; part < combinations.parts().size(); ++part) {
      section.metrics.push_back(
          metric_of(group, what, combinations.parts()[part], static_cast<int64_t>(part) + 1));
    }
  }
  section.tables.push_back(std::move(table));
}

}  // namespace espalier
