#include "trainer/objectives/reading.h"

#include <map>

#include <torch/torch.h>

#include "data/order/random.h"
#include "models/layers/fused_ops.h"
#include "trainer/evaluation/shares.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_inference.h"
#include "trainer/objectives/slot_draws.h"

namespace espalier {
namespace {

constexpr uint64_t kTurnStream = 0x726561642d747572ULL;  // nothing else of a run uses it

}  // namespace

void ReadingSettings::declare_reading(SettingsScope scope) {
  declare_data(scope);
  scope.add("branch", branch, {.help = "Branch of the model that writes the text."});
  scope.add("weight", weight, {.help = "Weight of the loss.", .min = 0, .max = 1e6});
}

ReadingObjective::ReadingObjective(const ObjectiveContext& context, const ReadingSettings& settings)
    : name_(context.objective.name),
      data_(settings.data),
      branch_name_(settings.branch),
      things_(context.things),
      model_(dynamic_cast<YDecoder&>(context.model)),
      branch_(model_.module()->branch_index(settings.branch)),
      weight_(settings.weight),
      seed_(static_cast<uint64_t>(context.run.seed)),
      order_seed_(context.order_seed),
      is_measured_(context.is_measured()) {}

void ReadingObjective::learn(const ObjectiveContext& context) {
  if (!context.for_training) return;
  train_ = &things_.image_split(data_, context.split);
  inputs_ = ImageInputs(things_, model_.image_tokenizer_name(), data_, context.split,
                        is_measured_ ? 1 : kViews);
}

std::vector<std::string> ReadingObjective::parameter_groups_used() const {
  return {"trunk", branch_group(branch_name_)};
}

std::string ReadingObjective::data_fingerprint() const {
  return train_ == nullptr ? "" : train_->fingerprint();
}

std::unique_ptr<ObjectiveBatch> ReadingObjective::load(const Turn& turn) {
  auto batch = std::make_unique<ReadingBatch>();
  SlotDraws draws(seed_, turn);
  SequencePacker packer(model_.text().tokens(), model_.image_positions());
  std::vector<PictureView> pictures;
  for (int64_t i = 0; i < turn.samples; ++i) {
    const int64_t position = turn.first_sample() + i;
    const int64_t sample = train_->sample_at(order_seed_, position);
    int64_t view = is_measured_ ? 0 : draws.next().view;
    if (keeps_orientation() && is_mirrored(view)) --view;
    CounterRng random(seed_, combine_streams(kTurnStream, static_cast<uint64_t>(position)));
    const Reading reading = this->reading(train_->describe(sample), random);
    packer.add_read(reading.prompt.ids, reading.answer);
    for (const int64_t picture : reading.prompt.pictures) {
      pictures.push_back({sample, picture, view});
    }
  }
  batch->rows = packer.rows();
  batch->rows.mask.prepare(model_.device());
  batch->target_rows = packer.target_rows();
  batch->targets = packer.targets();
  batch->images = inputs_.rows(pictures);
  batch->counts = {{"", static_cast<double>(packer.target_count())}};
  batch->positions = static_cast<double>(batch->rows.sources.numel());
  return batch;
}

std::vector<LossTerm> ReadingObjective::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const ReadingBatch&>(base);
  const at::Device device = model_.device();
  TokenRows rows = model_.to_device(batch.rows);
  if (rows.pictures.numel() > 0) {
    const ImageCodes codes = inputs_.codes(batch.images);
    model_.set_image_inputs(rows, codes.codes, codes.semantics);
  }
  const at::Tensor hidden = model_.module()->hidden(rows, branch_);
  const at::Tensor logits =
      model_.module()->text_logits(hidden.index_select(0, batch.target_rows.to(device)), branch_);
  return {{"", cross_entropy_sum(logits, batch.targets.to(device))}};
}

std::vector<std::string> ReadingObjective::write(const ImageSet& images, const Prompt& prompt,
                                                 int64_t max_tokens) {
  const at::Tensor levels = images.all_levels();
  // Ids are moved as id + 1; 0 is no token.
  const at::Tensor all = gather_rows(
      things_.comm(), images.size(), {max_tokens},
      [&](const at::Tensor& indices) {
        std::vector<int64_t> pictures;
        for (int64_t i = 0; i < indices.size(0); ++i) {
          for (const int64_t picture : prompt.pictures) {
            pictures.push_back(images.row_of(indices[i].item<int64_t>(), picture));
          }
        }
        ImageCodes codes;
        if (!pictures.empty()) {
          const at::Tensor shown = levels.index_select(0, torch::tensor(pictures, at::kLong));
          codes = encode_images(model_.image_tokenizer().module(),
                                levels_to_values(shown).to(model_.device()), 1);
          codes = {codes.codes[0], codes.semantics[0]};
        }
        const auto answers =
            write_answers(model_, branch_, prompt.ids, indices.size(0), codes, max_tokens);
        const at::Tensor ids = torch::zeros({indices.size(0), max_tokens});
        for (size_t row = 0; row < answers.size(); ++row) {
          for (size_t t = 0; t < answers[row].size(); ++t) {
            ids[static_cast<int64_t>(row)][static_cast<int64_t>(t)] = answers[row][t] + 1.0;
          }
        }
        return ids;
      },
      "evaluation: writing", things_.on_work());
  std::vector<std::string> texts;
  for (int64_t row = 0; row < all.size(0); ++row) {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < max_tokens; ++t) {
      const auto id = static_cast<int32_t>(all[row][t].item<float>());
      if (id > 0) ids.push_back(id - 1);
    }
    texts.push_back(model_.text().decode(ids));
  }
  return texts;
}

std::vector<std::string> ReadingObjective::write_each(
    const ImageSet& images, const std::function<Prompt(const Sample& sample)>& prompt_of,
    int64_t max_tokens) {
  using Key = std::pair<std::vector<int64_t>, std::vector<int64_t>>;
  std::map<Key, std::vector<int64_t>> by_prompt;
  for (int64_t i = 0; i < images.size(); ++i) {
    Prompt prompt = prompt_of(images.samples[static_cast<size_t>(i)]);
    by_prompt[{std::move(prompt.ids), std::move(prompt.pictures)}].push_back(i);
  }
  std::vector<std::string> texts(static_cast<size_t>(images.size()));
  for (const auto& [prompt, indices] : by_prompt) {
    const auto written = write(images.select(indices), {prompt.first, prompt.second}, max_tokens);
    for (size_t k = 0; k < indices.size(); ++k) {
      texts[static_cast<size_t>(indices[k])] = written[k];
    }
  }
  return texts;
}

}  // namespace espalier
