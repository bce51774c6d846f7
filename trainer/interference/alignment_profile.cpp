#include "trainer/interference/alignment_profile.h"

#include <algorithm>

#include <torch/torch.h>

#include "trainer/evaluation/mutual_neighbours.h"
#include "trainer/evaluation/shares.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/sequences.h"
#include "trainer/named/spread_indices.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kPermutations = 20;
constexpr uint64_t kShuffles = 0x616c69676eULL;  // the same shuffles at every measure

// The data set of the first objective that needs captions and has a validation split; "" = none.
std::string captioned_data(const RunConfig& config, const StageConfig& stage) {
  for (const ObjectiveConfig& objective : stage.objectives) {
    const std::vector<std::string> fields = objective.settings->data_fields();
    if (std::find(fields.begin(), fields.end(), "caption") == fields.end()) continue;
    const DataConfig& data = config.data_named(objective.settings->data, "an objective");
    if (!data.validation.empty()) return data.name;
  }
  return "";
}

std::vector<std::string> branches_of(const StageConfig& stage) {
  std::vector<std::string> branches;
  for (const ObjectiveConfig& objective : stage.objectives) {
    const std::string branch = objective.settings->branch_name();
    if (branch.empty() || std::count(branches.begin(), branches.end(), branch) > 0) continue;
    branches.push_back(branch);
  }
  return branches;
}

// (sequences, depths, width): means over the rows `first` .. `first + count` of each sequence. The
// width is the largest; narrower states have zeros behind them.
at::Tensor means_of(std::vector<at::Tensor> states, const std::vector<int64_t>& first,
                    const std::vector<int64_t>& count) {
  int64_t width = 0;
  for (const at::Tensor& state : states) width = std::max(width, state.size(1));
  for (at::Tensor& state : states) {
    state = at::constant_pad_nd(state.to(at::kFloat), {0, width - state.size(1)});
  }
  const at::Tensor all = torch::stack(states, 1);  // (rows, depths, width)
  std::vector<at::Tensor> means;
  for (size_t i = 0; i < first.size(); ++i) {
    means.push_back(all.narrow(0, first[i], count[i]).mean(0));
  }
  return torch::stack(means);
}

}  // namespace

std::unique_ptr<AlignmentProfile> AlignmentProfile::make(NamedThings& things, const Stage& stage) {
  const InterferenceConfig& config = things.config().interference;
  if (config.every_steps == 0 || config.alignment_samples == 0) return nullptr;
  auto* model = dynamic_cast<YDecoder*>(&things.model(stage.config().trains));
  const std::string data = captioned_data(things.config(), stage.config());
  if (model == nullptr || data.empty()) return nullptr;
  return std::unique_ptr<AlignmentProfile>(new AlignmentProfile(things, stage, *model, data));
}

AlignmentProfile::AlignmentProfile(NamedThings& things, const Stage& stage, YDecoder& model,
                                   std::string data)
    : things_(things), stage_(stage), model_(model), data_(std::move(data)) {}

AlignmentRecord AlignmentProfile::measure() {
  const torch::NoGradGuard no_grad;
  const InterferenceConfig& config = things_.config().interference;
  const int64_t size = things_.images(data_, "validation").size();
  const std::vector<int64_t> samples = spread_indices(config.alignment_samples, size);
  AlignmentRecord record;
  record.stage = stage_.config().name;
  record.samples = std::ssize(samples);
  record.neighbours = std::min(config.neighbours, record.samples - 1);
  record.permutations = kPermutations;
  record.trunk_layers = model_.module()->options().trunk_layers;
  if (record.samples < 2) return record;
  for (const std::string& name : branches_of(stage_.config())) {
    const at::Tensor all = features(model_.module()->branch_index(name), samples);
    AlignmentRecord::Branch& branch = record.branches.emplace_back();
    branch.name = name;
    const YModelOptions& shape = model_.module()->options();
    const BranchOptions& arm =
        shape.branches[static_cast<size_t>(model_.module()->branch_index(name))];
    for (int64_t depth = 0; depth < all.size(2); ++depth) {
      // The last is after the branch's norm, whatever layers it has.
      const bool is_of_trunk = depth <= shape.trunk_layers && depth + 1 < all.size(2);
      const int64_t width = is_of_trunk ? shape.width : branch_block(shape, arm).width;
      const at::Tensor at_depth = all.select(2, depth).narrow(2, 0, width);
      const Alignment found =
          alignment_of(at_depth.select(1, 0), at_depth.select(1, 1),
                       {.neighbours = record.neighbours}, kPermutations, kShuffles);
      branch.scores.push_back(found.score);
      branch.baselines.push_back(found.baseline);
      branch.baseline_deviations.push_back(found.baseline_deviation);
    }
  }
  return record;
}

at::Tensor AlignmentProfile::features(int64_t branch, const std::vector<int64_t>& samples) {
  const ImageSet& all = things_.images(data_, "validation");
  const YModelOptions& shape = model_.module()->options();
  const BranchOptions& arm = shape.branches[static_cast<size_t>(branch)];
  const int64_t depths = 1 + shape.trunk_layers + arm.layers;
  const int64_t width = std::max(shape.width, branch_block(shape, arm).width);
  return gather_rows(
      things_.comm(), std::ssize(samples), {2, depths, width},
      [&](const at::Tensor& indices) {
        std::vector<int64_t> chosen;
        for (int64_t i = 0; i < indices.size(0); ++i) {
          chosen.push_back(samples[static_cast<size_t>(indices[i].item<int64_t>())]);
        }
        const ImageSet images = all.select(chosen);
        const PrecisionGuard guard(model_.device().type(), stage_.config().precision);
        return torch::stack({image_states(images, branch), caption_states(images, branch)}, 1);
      },
      "evaluation: alignment", things_.on_work());
}

// <image> positions.. </image>, as a sequence that is read begins.
at::Tensor AlignmentProfile::image_states(const ImageSet& images, int64_t branch) const {
  const int64_t positions = model_.image_positions();
  SequencePacker packer(model_.text().tokens(), positions);
  std::vector<int64_t> first;
  for (int64_t i = 0; i < images.size(); ++i) {
    first.push_back(i * (positions + 2) + 1);
    packer.add_read({kPicture}, {}, /*with_targets=*/false);
  }
  TokenRows rows = model_.to_device(packer.rows());
  const ImageCodes codes = encode_images(model_.image_tokenizer().module(),
                                         images.values().to(model_.device()), /*views=*/1);
  const auto head = model_.module()->options().branches[static_cast<size_t>(branch)].head;
  const at::Tensor semantics =
      head == BranchHead::kText && codes.semantics.defined() ? codes.semantics[0] : at::Tensor();
  model_.set_image_inputs(rows, codes.codes[0], semantics);
  const std::vector<int64_t> count(first.size(), positions);
  return means_of(model_.module()->hidden_states(rows, branch), first, count);
}

at::Tensor AlignmentProfile::caption_states(const ImageSet& images, int64_t branch) const {
  std::vector<int64_t> ids, first, count;
  for (const Sample& sample : images.samples) {
    std::vector<int64_t> caption = model_.encode_cut(sample.caption());
    if (caption.empty()) caption.push_back(model_.text().tokens().null);
    first.push_back(std::ssize(ids));
    count.push_back(std::ssize(caption));
    ids.insert(ids.end(), caption.begin(), caption.end());
  }
  TokenRows rows;
  rows.text_ids = torch::tensor(ids, at::kLong);
  rows.positions = torch::empty({0}, at::kLong);
  rows.sources = torch::arange(std::ssize(ids), at::kLong) + kFirstText;
  rows.mask = AttentionMask::from_lengths(count);
  return means_of(model_.module()->hidden_states(model_.to_device(rows), branch), first, count);
}

}  // namespace espalier
