#include <torch/torch.h>

#include "trainer/evaluation/part_scores.h"
#include "trainer/objectives/draw/draw.h"

namespace espalier {
namespace {

using Drawn = std::pair<const ImageSet&, const Drawing&>;

// What never has to be drawn to be judged: chance, the best copy of a training picture, a linear
// drawing, and as a ceiling the true pictures through the tokenizer.
std::vector<PartRow> rows_beside(const PictureJudge& judge, const at::Tensor& train,
                                 const at::Tensor& train_labels, const Drawing& drawing,
                                 const at::Tensor& chosen, const at::Tensor& wanted) {
  const auto of_chosen = [&](const at::Tensor& pictures) {
    return pictures.index_select(0, chosen).flatten(1);
  };
  const at::Tensor nearest = at::cdist(of_chosen(drawing.originals), train).argmin(1);
  return {{.label = "chance", .chances = judge.chance(wanted)},
          {.label = "the training picture nearest to the true one",
           .right = judge.right(train.index_select(0, nearest), wanted)},
          {.label = "least squares from parts to pixels",
           .right = judge.right(sums_of_parts(train, train_labels, wanted), wanted)},
          {.label = "the true picture through the tokenizer",
           .right = judge.right(of_chosen(drawing.reconstructions), wanted),
           .is_baseline = false}};
}

}  // namespace

void add_drawn_parts(Section& section, const ImageSet& trained, const ImageSet& held_out,
                     const Drawn& seen, const Drawn& unseen) {
  const torch::NoGradGuard no_gradient;
  const Combinations combinations(trained.samples);
  if (combinations.empty()) return;
  const ImageSet known = trained.select(combinations.of_novelty(trained.samples, Novelty::kSeen));
  const at::Tensor train = known.values().flatten(1);
  const at::Tensor train_labels = combinations.labels(known.samples);
  const PictureJudge judge(at::cat({train, held_out.values().flatten(1)}),
                           at::cat({train_labels, combinations.labels(held_out.samples)}));
  std::vector<PartGroup> groups;
  const auto add = [&](PartPictures pictures, const Drawn& drawn, Novelty novelty) {
    const auto& [set, drawing] = drawn;
    const at::Tensor chosen =
        torch::tensor(combinations.of_novelty(set.samples, novelty), at::kLong);
    const at::Tensor wanted = combinations.labels(set.samples).index_select(0, chosen);
    const at::Tensor right = judge.right(drawing.drawn.index_select(0, chosen).flatten(1), wanted);
    groups.push_back(part_group(pictures, wanted, right));
    if (pictures == PartPictures::kTraining || chosen.numel() == 0) return;
    groups.back().beside = rows_beside(judge, train, train_labels, drawing, chosen, wanted);
  };
  add(PartPictures::kTraining, seen, Novelty::kSeen);
  add(PartPictures::kNew, unseen, Novelty::kSeen);
  add(PartPictures::kNeverSeen, unseen, Novelty::kNewCombination);
  add_part_scores(section, combinations, "drawings", groups);
}

}  // namespace espalier
