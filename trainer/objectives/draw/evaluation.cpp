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

// Samples that are drawn, each from a prompt.
struct Asked {
  ImageSet set;
  std::vector<DrawCase> cases = {};
  at::Tensor pictures = {};  // (P, 3, S, S) uint8: all of the samples
  at::Tensor targets = {};   // (N) int64: rows of them

  int64_t size() const { return set.size(); }
  const DrawCase& at(int64_t i) const { return cases[static_cast<size_t>(i)]; }
  // Rows of the pictures of prompts, sequence after sequence, each with its target behind it where
  // that is wanted.
  at::Tensor rows_of(const at::Tensor& indices, bool with_targets) const {
    std::vector<int64_t> rows;
    for (int64_t k = 0; k < indices.size(0); ++k) {
      const int64_t i = indices[k].item<int64_t>();
      for (const int64_t picture : at(i).prompt.pictures) rows.push_back(set.row_of(i, picture));
      if (with_targets) rows.push_back(set.row_of(i, at(i).target));
    }
    return torch::tensor(rows, at::kLong);
  }
};

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
  bool is_of_captions() const { return !objective_.settings().is_of_messages(); }
  Asked ask(ImageSet set) const;
  Asked seen(int64_t count) const;
  std::string name_of(const Sample& sample) const;
  at::Tensor codes_of(const at::Tensor& levels);
  std::vector<DrawPrompt> prompts_of(const Asked& asked, const at::Tensor& indices);
  at::Tensor teacher_forced(const Asked& asked);
  void add_code_series(const at::Tensor& of_seen, const at::Tensor& of_unseen);
  Drawing draw(const Asked& asked);
  void add_drawing_metrics(const Asked& asked, const Drawing& drawing);
  void add_retrieval(const ImageSet& set, const Drawing& drawing);
  void add_edit_metrics(const Asked& asked, const Drawing& drawing);
  void add_sheet(const std::string& name, const Asked& asked, const Drawing& drawing,
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
  const Asked unseen = ask(all.select(spread_indices(request_.max_samples, all.size())));
  const std::string what = is_of_captions() ? "names" : "conversations";
  section_ = {.name = objective_.name(),
              .title = "Drawing: " + objective_.name(),
              .text = "The branch " + objective_.settings().branch + " draws codes from " +
                      (is_of_captions() ? "a name" : "a conversation") +
                      ", and the tokenizer turns them into pixels. Drawing is trained on " +
                      std::to_string(objective_.drawn(train_.size()).size()) + " " + what +
                      " (seen); unseen ones are " + std::to_string(unseen.size()) + " held out (" +
                      request_.split + ")."};
  add_code_series(teacher_forced(seen(unseen.size())), teacher_forced(unseen));
  const int64_t on_sheet = request_.is_final ? 2 * kColumns : kColumns;
  const int64_t count = request_.is_final ? kDrawnAtTheEnd : kColumns;
  const Asked drawn_seen = seen(count);
  const Asked drawn_unseen = ask(unseen.set.select(spread_indices(count, unseen.size())));
  const Drawing of_seen = draw(drawn_seen);
  const Drawing of_unseen = draw(drawn_unseen);
  add_drawing_metrics(drawn_seen, of_seen);
  if (is_of_captions()) {
    if (request_.is_final) add_retrieval(drawn_seen.set, of_seen);
    add_drawn_parts(section_, train_.select(objective_.drawn(train_.size())), all,
                    {drawn_seen.set, of_seen}, {drawn_unseen.set, of_unseen});
  } else {
    add_edit_metrics(drawn_unseen, of_unseen);
  }
  if (things_.comm().rank() == 0) {
    add_sheet("seen", drawn_seen, of_seen, on_sheet);
    add_sheet("unseen", drawn_unseen, of_unseen, on_sheet);
  }
  return std::move(section_);
}

Asked Evaluation::ask(ImageSet set) const {
  Asked asked{.set = std::move(set)};
  std::vector<int64_t> targets;
  for (int64_t i = 0; i < asked.size(); ++i) {
    asked.cases.push_back(objective_.last_case(asked.set.samples[static_cast<size_t>(i)]));
    targets.push_back(asked.set.row_of(i, asked.cases.back().target));
  }
  asked.pictures = asked.set.all_levels();
  asked.targets = torch::tensor(targets, at::kLong);
  return asked;
}

// `count` of the training samples that drawing is trained on.
Asked Evaluation::seen(int64_t count) const {
  const std::vector<int64_t> drawn = objective_.drawn(train_.size());
  std::vector<int64_t> chosen;
  for (const int64_t i : spread_indices(count, static_cast<int64_t>(drawn.size()))) {
    chosen.push_back(drawn[static_cast<size_t>(i)]);
  }
  return ask(train_.select(chosen));
}

std::string Evaluation::name_of(const Sample& sample) const {
  if (is_of_captions()) return sample.caption();
  const MessagePlace place = assistant_parts(sample.messages, /*is_picture=*/true).back();
  std::string said;
  for (size_t m = 0; m < place.message; ++m) {
    if (!sample.messages[m].is_assistant()) said = sample.messages[m].text();
  }
  return said;
}

at::Tensor Evaluation::codes_of(const at::Tensor& levels) {
  return encode_images(model_.image_tokenizer().module(),
                       levels_to_values(levels).to(model_.device()), 1)
      .codes[0];
}

// (N, 2 * stages): per sample and stage, share of codes that are the most likely ones when those
// before them are given, and the mean of -log p.
at::Tensor Evaluation::teacher_forced(const Asked& asked) {
  const int64_t stages = model_.module()->options().stages;
  const int64_t positions = model_.image_positions();
  return gather_rows(
      things_.comm(), asked.size(), {2 * stages},
      [&](const at::Tensor& indices) {
        SequencePacker packer(model_.text().tokens(), positions);
        for (int64_t i = 0; i < indices.size(0); ++i) {
          packer.add_draw(asked.at(indices[i].item<int64_t>()).prompt.ids);
        }
        TokenRows rows = model_.to_device(packer.rows());
        const at::Tensor all =
            codes_of(asked.pictures.index_select(0, asked.rows_of(indices, /*with_targets=*/true)));
        model_.set_image_inputs(rows, all, {});
        const at::Tensor codes =
            all.index_select(0, packer.drawn().to(model_.device())).narrow(2, 0, stages);
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

std::vector<DrawPrompt> Evaluation::prompts_of(const Asked& asked, const at::Tensor& indices) {
  const at::Tensor rows = asked.rows_of(indices, /*with_targets=*/false);
  at::Tensor sums;  // (pictures, positions, channels)
  if (rows.numel() > 0) {
    const at::Tensor codes = codes_of(asked.pictures.index_select(0, rows));
    sums = sum_codes(model_.codebooks(), codes).select(0, model_.module()->options().stages - 1);
  }
  std::vector<DrawPrompt> prompts;
  int64_t first = 0;
  for (int64_t k = 0; k < indices.size(0); ++k) {
    const Prompt& prompt = asked.at(indices[k].item<int64_t>()).prompt;
    const int64_t count = std::ssize(prompt.pictures);
    prompts.push_back(draw_prompt(model_.text().tokens(), objective_.settings(), prompt.ids,
                                  count == 0 ? at::Tensor() : sums.narrow(0, first, count)));
    first += count;
  }
  return prompts;
}

Drawing Evaluation::draw(const Asked& asked) {
  ImageTokenizer& tokenizer = model_.image_tokenizer().module();
  const at::Tensor levels = asked.pictures.index_select(0, asked.targets);
  const std::vector<int64_t> shape = levels.sizes().slice(1).vec();
  Drawing drawing;
  drawing.originals = levels_to_values(levels);
  drawing.drawn =
      gather_rows(
          things_.comm(), asked.size(), shape,
          [&](const at::Tensor& indices) {
            const auto* streams = indices.data_ptr<int64_t>();
            return tokenizer->decode_pixels(draw_codes(
                model_, objective_.branch(), prompts_of(asked, indices),
                {streams, streams + indices.size(0)}, objective_.settings().sampling, kDrawSeed));
          },
          "evaluation: drawing", things_.on_work())
          .clamp_(-1, 1);
  drawing.reconstructions =
      gather_rows(things_.comm(), asked.size(), shape, [&](const at::Tensor& indices) {
        return tokenizer->decode_pixels(codes_of(levels.index_select(0, indices)));
      }).clamp_(-1, 1);
  return drawing;
}

void Evaluation::add_drawing_metrics(const Asked& asked, const Drawing& drawing) {
  const std::string what = is_of_captions() ? "names" : "conversations";
  const ImageQuality quality =
      image_quality(squared_error_of_images(drawing.drawn, drawing.reconstructions));
  section_.metrics.push_back(
      {.name = "exact_seen",
       .label = "seen " + what + " drawn exactly as the tokenizer reconstructs their image",
       .value = quality.exact_share,
       .standard_error = standard_error_of_share(quality.exact_share, asked.size())});
  section_.metrics.push_back({.name = "psnr_db_seen",
                              .label = "PSNR of the other drawings of seen " + what + " to that",
                              .value = quality.psnr_db,
                              .standard_error = quality.psnr_db_standard_error,
                              .unit = "dB"});
}

// A measure of memory, not of skill: whether the nearest training image is the one of that name.
void Evaluation::add_retrieval(const ImageSet& set, const Drawing& drawing) {
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

// How near drawings of held-out conversations come to the pictures that were shown, against showing
// the last picture again.
void Evaluation::add_edit_metrics(const Asked& asked, const Drawing& drawing) {
  std::vector<int64_t> edited, before;
  for (int64_t i = 0; i < asked.size(); ++i) {
    const std::vector<int64_t>& pictures = asked.at(i).prompt.pictures;
    if (pictures.empty()) continue;
    edited.push_back(i);
    before.push_back(asked.set.row_of(i, pictures.back()));
  }
  const auto quality_of = [&](const at::Tensor& pictures, const at::Tensor& wanted) {
    return image_quality(squared_error_of_images(pictures, wanted));
  };
  const ImageQuality drawn = quality_of(drawing.drawn, drawing.originals);
  Metric metric{.name = "psnr_db_unseen",
                .label = "PSNR of drawings of held-out conversations to the picture shown",
                .value = drawn.psnr_db,
                .standard_error = drawn.psnr_db_standard_error,
                .unit = "dB"};
  if (std::ssize(edited) == asked.size()) {
    const at::Tensor last =
        levels_to_values(asked.pictures.index_select(0, torch::tensor(before, at::kLong)));
    metric.baselines = {{"the last picture again", quality_of(last, drawing.originals).psnr_db},
                        {"the right picture through the tokenizer",
                         quality_of(drawing.reconstructions, drawing.originals).psnr_db}};
  }
  section_.metrics.push_back(std::move(metric));
}

// Rows of originals, the tokenizer's reconstructions and drawings, kColumns at a time; above them
// the last picture that a conversation showed before.
void Evaluation::add_sheet(const std::string& name, const Asked& asked, const Drawing& drawing,
                           int64_t count) {
  const std::vector<int64_t> shown = spread_indices(count, asked.size());
  const at::Tensor rows_shown = torch::tensor(shown, at::kLong);
  std::vector<std::vector<Image>> kinds;
  if (!is_of_captions()) {
    const at::Tensor blank = at::full_like(asked.pictures[0], 255);
    std::vector<at::Tensor> last;
    for (const int64_t i : shown) {
      const std::vector<int64_t>& before = asked.at(i).prompt.pictures;
      last.push_back(before.empty() ? blank : asked.pictures[asked.set.row_of(i, before.back())]);
    }
    kinds.push_back(tensor_to_images(levels_to_values(at::stack(last))));
  }
  for (const auto* all : {&drawing.originals, &drawing.reconstructions, &drawing.drawn}) {
    kinds.push_back(tensor_to_images(all->index_select(0, rows_shown)));
  }
  std::vector<std::vector<Image>> rows;
  std::string names;
  count = std::ssize(shown);
  for (int64_t first = 0; first < count; first += kColumns) {
    const int64_t end = std::min(first + kColumns, count);
    for (const std::vector<Image>& images : kinds) {
      rows.emplace_back(images.begin() + first, images.begin() + end);
    }
    for (int64_t i = first; i < end; ++i) {
      const int64_t at = shown[static_cast<size_t>(i)];
      names += (i == 0 ? "" : ", ") + name_of(asked.set.samples[static_cast<size_t>(at)]);
    }
  }
  const std::string path =
      request_.directory + "/" + request_.picture_prefix + "drawn-" + name + ".png";
  save_picture(path, contact_sheet(rows));
  section_.pictures.push_back(
      {"drawn-" + name, path,
       is_of_captions()
           ? "Names " + name +
                 " in training. In threes: the real image, the same through the tokenizer, and "
                 "what was drawn from its name. " +
                 names
           : "Conversations " + name +
                 " in training. In fours: the last picture before, the one that was shown then, "
                 "the same through the tokenizer, and what was drawn. " +
                 names});
}

}  // namespace

Section evaluate_draw(Draw& objective, const EvaluationRequest& request) {
  const torch::NoGradGuard no_grad;
  return Evaluation(objective, request).run();
}

}  // namespace espalier
