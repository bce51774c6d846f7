#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "trainer/evaluation/image_quality.h"
#include "trainer/evaluation/shares.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_inference.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/record/evaluation_files.h"

namespace espalier {
namespace {

constexpr int64_t kColumns = 12;         // of a contact sheet
constexpr int64_t kDrawnAtTheEnd = 256;  // names that are drawn of each kind in a final evaluation
constexpr uint64_t kDrawSeed = 1;        // the same pictures at every evaluation

// One evaluation of one objective; collective throughout.
class Evaluation {
 public:
  Evaluation(Draw& objective, const EvaluationRequest& request)
      : objective_(objective),
        request_(request),
        things_(objective.things()),
        model_(objective.model()),
        train_(things_.images(objective.settings().data, "train")) {}

  Section run();

 private:
  ImageSet seen(int64_t count) const;
  at::Tensor codes_of(const ImageSet& set, const at::Tensor& indices);
  at::Tensor teacher_forced(const ImageSet& set);
  void add_code_series(const at::Tensor& of_seen, const at::Tensor& of_unseen);
  Drawing draw(const ImageSet& set);
  void add_drawing_metrics(const ImageSet& set, const Drawing& drawing);
  void add_sheet(const std::string& name, const ImageSet& set, const Drawing& drawing,
                 int64_t count);

  Draw& objective_;
  const EvaluationRequest& request_;
  NamedThings& things_;
  YDecoder& model_;
  const ImageSet& train_;
  Section section_;
};

Section Evaluation::run() {
  const ImageSet& all = things_.images(objective_.settings().data, request_.split);
  const ImageSet unseen = all.select(spread_indices(request_.max_samples, all.size()));
  section_ = {.name = objective_.name(),
              .title = "Drawing: " + objective_.name(),
              .text = "The branch " + objective_.settings().branch +
                      " draws codes from a name, and the tokenizer turns them into pixels. Drawing "
                      "is trained on " +
                      std::to_string(objective_.drawn(train_.size()).size()) +
                      " names (seen); unseen ones are of " + std::to_string(unseen.size()) +
                      " held-out images (" + request_.split + ")."};
  add_code_series(teacher_forced(seen(unseen.size())), teacher_forced(unseen));
  const int64_t on_sheet = request_.is_final ? 2 * kColumns : kColumns;
  const int64_t count = request_.is_final ? kDrawnAtTheEnd : kColumns;
  const ImageSet drawn_seen = seen(count);
  const ImageSet drawn_unseen = unseen.select(spread_indices(count, unseen.size()));
  const Drawing of_seen = draw(drawn_seen);
  const Drawing of_unseen = draw(drawn_unseen);
  add_drawing_metrics(drawn_seen, of_seen);
  add_drawn_parts(section_, train_.select(objective_.drawn(train_.size())), all,
                  {drawn_seen, of_seen}, {drawn_unseen, of_unseen});
  if (things_.comm().rank() == 0) {
    add_sheet("seen", drawn_seen, of_seen, on_sheet);
    add_sheet("unseen", drawn_unseen, of_unseen, on_sheet);
  }
  return std::move(section_);
}

// `count` of the training samples that drawing is trained on.
ImageSet Evaluation::seen(int64_t count) const {
  const std::vector<int64_t> drawn = objective_.drawn(train_.size());
  std::vector<int64_t> chosen;
  for (const int64_t i : spread_indices(count, static_cast<int64_t>(drawn.size()))) {
    chosen.push_back(drawn[static_cast<size_t>(i)]);
  }
  return train_.select(chosen);
}

at::Tensor Evaluation::codes_of(const ImageSet& set, const at::Tensor& indices) {
  const at::Tensor values =
      levels_to_values(set.levels.index_select(0, indices)).to(model_.device());
  return encode_images(model_.image_tokenizer().module(), values, 1).codes[0];
}

// (N, 2 * stages): per sample and stage, share of codes that are the most likely ones when those
// before them are given, and the mean of -log p.
at::Tensor Evaluation::teacher_forced(const ImageSet& set) {
  const int64_t stages = model_.module()->options().stages;
  const int64_t positions = model_.image_positions();
  return gather_rows(
      things_.comm(), set.size(), {2 * stages},
      [&](const at::Tensor& indices) {
        SequencePacker packer(model_.text().tokens(), positions);
        for (int64_t i = 0; i < indices.size(0); ++i) {
          const auto at = static_cast<size_t>(indices[i].item<int64_t>());
          packer.add_draw(model_.encode_cut(set.samples[at].caption()));
        }
        TokenRows rows = model_.to_device(packer.rows());
        const at::Tensor codes = codes_of(set, indices).narrow(2, 0, stages);
        model_.set_image_inputs(rows, codes.narrow(1, 0, positions - 1), {});
        const at::Tensor sums = sum_codes(model_.codebooks(), codes).flatten(1, 2);
        const at::Tensor logits = model_
                                      .draw_logits(rows, objective_.branch(),
                                                   packer.target_rows().to(model_.device()), sums)
                                      .to(at::kFloat)
                                      .view({stages, codes.size(0), positions, -1});
        const at::Tensor targets = codes.permute({2, 0, 1}).to(at::kLong);  // (S, B, P)
        const at::Tensor right = logits.argmax(-1).eq(targets).to(at::kFloat).mean(2);
        const at::Tensor surprise =
            -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(2);
        return at::cat({right, surprise}).t();
      },
      "evaluation: codes", things_.on_work());
}

void Evaluation::add_code_series(const at::Tensor& of_seen, const at::Tensor& of_unseen) {
  const YModelOptions& shape = model_.module()->options();
  const double uniform = std::log(static_cast<double>(shape.codebook_size));
  std::vector<std::string> places;
  for (int64_t stage = 1; stage <= shape.stages; ++stage) places.push_back(std::to_string(stage));
  const auto add = [&](const std::string& name, const std::string& label, const at::Tensor& rows,
                       int64_t first, std::vector<Baseline> baselines) {
    section_.series.push_back(
        {.name = name,
         .label = label,
         .axis = "stage",
         .places = places,
         .values = to_numbers(rows.narrow(1, first, shape.stages).to(at::kDouble).mean(0)),
         .baselines = std::move(baselines)});
  };
  const std::vector<Baseline> chance = {{"uniform", uniform}};
  add("code_loss_unseen", "Loss of the true codes, unseen names (nats)", of_unseen, shape.stages,
      chance);
  add("code_loss_seen", "Loss of the true codes, seen names (nats)", of_seen, shape.stages, chance);
  add("code_accuracy_unseen", "True code is the likeliest, unseen names", of_unseen, 0, {});
  add("code_accuracy_seen", "True code is the likeliest, seen names", of_seen, 0, {});
  const at::Tensor by_sample =
      of_unseen.narrow(1, shape.stages, shape.stages).to(at::kDouble).mean(1);
  section_.metrics.push_back({.name = "code_loss_unseen",
                              .label = "loss of the true codes, unseen names (nats)",
                              .value = by_sample.mean().item<double>(),
                              .standard_error = standard_error_of_mean(to_numbers(by_sample)),
                              .is_headline = true,
                              .baselines = {{"uniform codes", uniform}},
                              .is_lower_better = true});
}

Drawing Evaluation::draw(const ImageSet& set) {
  ImageTokenizer& tokenizer = model_.image_tokenizer().module();
  const std::vector<int64_t> shape = set.levels.sizes().slice(1).vec();
  Drawing drawing;
  drawing.originals = set.values();
  drawing.drawn =
      gather_rows(
          things_.comm(), set.size(), shape,
          [&](const at::Tensor& indices) {
            std::vector<std::string> names;
            std::vector<int64_t> streams;
            for (int64_t i = 0; i < indices.size(0); ++i) {
              streams.push_back(indices[i].item<int64_t>());
              names.push_back(set.samples[static_cast<size_t>(streams.back())].caption());
            }
            return tokenizer->decode_pixels(draw_codes(model_, objective_.branch(), names, streams,
                                                       objective_.settings().sampling, kDrawSeed));
          },
          "evaluation: drawing", things_.on_work())
          .clamp_(-1, 1);
  drawing.reconstructions =
      gather_rows(things_.comm(), set.size(), shape, [&](const at::Tensor& indices) {
        return tokenizer->decode_pixels(codes_of(set, indices));
      }).clamp_(-1, 1);
  return drawing;
}

void Evaluation::add_drawing_metrics(const ImageSet& set, const Drawing& drawing) {
  const ImageQuality quality =
      image_quality(squared_error_of_images(drawing.drawn, drawing.reconstructions));
  section_.metrics.push_back(
      {.name = "exact_seen",
       .label = "seen names drawn exactly as the tokenizer reconstructs their image",
       .value = quality.exact_share,
       .standard_error = standard_error_of_share(quality.exact_share, set.size())});
  section_.metrics.push_back({.name = "psnr_db_seen",
                              .label = "PSNR of the other drawings of seen names to that",
                              .value = quality.psnr_db,
                              .standard_error = quality.psnr_db_standard_error,
                              .unit = "dB"});
  if (!request_.is_final) return;
  // A measure of memory, not of skill: whether the nearest training image is the one of that name.
  const at::Tensor nearest =
      at::cdist(drawing.drawn.flatten(1), train_.values().flatten(1)).argmin(1);
  int64_t right = 0;
  for (int64_t i = 0; i < nearest.size(0); ++i) {
    const auto found = static_cast<size_t>(nearest[i].item<int64_t>());
    right += train_.samples[found].caption() == set.samples[static_cast<size_t>(i)].caption();
  }
  const double share = static_cast<double>(right) / static_cast<double>(nearest.size(0));
  section_.metrics.push_back(
      {.name = "retrieval_seen",
       .label = "seen names whose drawing is nearest to its own training image (memory)",
       .value = share,
       .standard_error = standard_error_of_share(share, nearest.size(0)),
       .baselines = {{"chance", 1.0 / static_cast<double>(train_.size())}}});
}

// Rows of originals, the tokenizer's reconstructions and drawings, kColumns at a time.
void Evaluation::add_sheet(const std::string& name, const ImageSet& set, const Drawing& drawing,
                           int64_t count) {
  const std::vector<int64_t> shown = spread_indices(count, set.size());
  const at::Tensor rows_shown = torch::tensor(shown, at::kLong);
  const auto images_of = [&](const at::Tensor& all) {
    return tensor_to_images(all.index_select(0, rows_shown));
  };
  const auto originals = images_of(drawing.originals);
  const auto reconstructions = images_of(drawing.reconstructions);
  const auto drawn = images_of(drawing.drawn);
  std::vector<std::vector<Image>> rows;
  std::string names;
  count = std::ssize(shown);
  for (int64_t first = 0; first < count; first += kColumns) {
    const int64_t end = std::min(first + kColumns, count);
    for (const auto* images : {&originals, &reconstructions, &drawn}) {
      rows.emplace_back(images->begin() + first, images->begin() + end);
    }
    for (int64_t i = first; i < end; ++i) {
      names += (i == 0 ? "" : ", ") +
               set.samples[static_cast<size_t>(shown[static_cast<size_t>(i)])].caption();
    }
  }
  const std::string path =
      request_.directory + "/" + request_.picture_prefix + "drawn-" + name + ".png";
  save_picture(path, contact_sheet(rows));
  section_.pictures.push_back(
      {"drawn-" + name, path,
       "Names " + name +
           " in training. In threes: the real image, the same through the tokenizer, and what was "
           "drawn from its name. " +
           names});
}

}  // namespace

Section evaluate_draw(Draw& objective, const EvaluationRequest& request) {
  const torch::NoGradGuard no_grad;
  return Evaluation(objective, request).run();
}

}  // namespace espalier
