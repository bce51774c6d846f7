#include "trainer/unified_evaluation.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "data/text/utf8.h"
#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr int64_t kBatch = 32;
constexpr int64_t kLongestAnswer = 24;  // tokens
constexpr int64_t kColumns = 12;        // of a contact sheet
constexpr uint64_t kDrawSeed = 1;       // the same pictures at every evaluation

// Samples with what the frozen tokenizer makes of them.
struct Split {
  std::vector<Sample> samples;
  torch::Tensor images;  // (N, 3, S, S)
  ImageCodes codes;      // one view
  int64_t size() const { return static_cast<int64_t>(samples.size()); }
};

Split load_split(UnifiedStage& stage, const ShardDataset& data,
                 const std::vector<int64_t>& samples) {
  Split split;
  std::vector<Image> images;
  for (const int64_t sample : samples) {
    split.samples.push_back(data.get(sample));
    images.push_back(split.samples.back().image);
  }
  split.images = images_to_tensor(images).to(stage.device());
  split.codes = encode_images(stage.image_tokenizer(), split.images, 1);
  return split;
}

// Rows that every rank made of its share of 0..n-1, as all rows on every rank. make(indices) ->
// (indices, ...) of a fixed shape; numbers must fit fp32.
torch::Tensor gather_shares(Communicator& comm, int64_t n, std::vector<int64_t> row_shape,
                            const std::function<torch::Tensor(const torch::Tensor&)>& make) {
  std::vector<int64_t> sizes = {n};
  sizes.insert(sizes.end(), row_shape.begin(), row_shape.end());
  const torch::Tensor all =
      torch::zeros(sizes, torch::TensorOptions(communication_device(comm)).dtype(torch::kFloat));
  const torch::Tensor mine = torch::arange(comm.rank(), n, comm.size(), torch::kLong);
  for (int64_t first = 0; first < mine.size(0); first += kBatch) {
    const torch::Tensor indices = mine.narrow(0, first, std::min(kBatch, mine.size(0) - first));
    all.index_copy_(0, indices.to(all.device()), make(indices).to(all.options()));
  }
  comm.all_reduce(all)->wait();
  return all.to(torch::kCPU);
}

std::vector<std::string> gather_answers(UnifiedStage& stage, Communicator& comm, const Split& split,
                                        UnifiedStage::Task task) {
  // Ids are moved as id + 1; 0 is no token.
  const torch::Tensor all =
      gather_shares(comm, split.size(), {kLongestAnswer}, [&](const torch::Tensor& indices) {
        const torch::Tensor i = indices.to(stage.device());
        const auto answers =
            write_answers(stage, task, split.codes.codes[0].index_select(0, i),
                          split.codes.semantics[0].index_select(0, i), kLongestAnswer);
        const torch::Tensor ids = torch::zeros({indices.size(0), kLongestAnswer});
        for (size_t row = 0; row < answers.size(); ++row) {
          for (size_t t = 0; t < answers[row].size(); ++t) {
            ids[static_cast<int64_t>(row)][static_cast<int64_t>(t)] = answers[row][t] + 1.0;
          }
        }
        return ids;
      });
  std::vector<std::string> texts;
  for (int64_t row = 0; row < all.size(0); ++row) {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < kLongestAnswer; ++t) {
      const auto id = static_cast<int32_t>(all[row][t].item<float>());
      if (id > 0) ids.push_back(id - 1);
    }
    texts.push_back(replace_invalid_utf8(stage.text().decode(ids)));
  }
  return texts;
}

double share_equal(const std::vector<std::string>& answers, const std::vector<Sample>& samples,
                   std::string Sample::*field) {
  int64_t equal = 0;
  for (size_t i = 0; i < answers.size(); ++i) equal += answers[i] == samples[i].*field ? 1 : 0;
  return answers.empty() ? 0.0 : static_cast<double>(equal) / static_cast<double>(answers.size());
}

std::vector<std::string> groups_of(const std::vector<Sample>& samples) {
  std::vector<std::string> groups;
  for (const Sample& sample : samples) groups.push_back(sample.group);
  return groups;
}

json evaluate_understanding(UnifiedStage& stage, Communicator& comm, const Split& seen,
                            const Split& unseen, bool is_final) {
  const auto groups = gather_answers(stage, comm, unseen, UnifiedStage::kGroup);
  const auto unseen_captions = gather_answers(stage, comm, unseen, UnifiedStage::kCaption);
  const auto seen_captions = gather_answers(stage, comm, seen, UnifiedStage::kCaption);
  json result = {
      {"group_accuracy", share_equal(groups, unseen.samples, &Sample::group)},
      {"caption_exact_seen", share_equal(seen_captions, seen.samples, &Sample::caption)},
      {"caption_exact_unseen", share_equal(unseen_captions, unseen.samples, &Sample::caption)},
      {"held_out_samples", unseen.size()}};
  for (int64_t i = 0; i < std::min<int64_t>(kColumns, unseen.size()); ++i) {
    const auto at = static_cast<size_t>(i * unseen.size() / std::min(kColumns, unseen.size()));
    result["examples"].push_back({{"caption", unseen.samples[at].caption},
                                  {"written", unseen_captions[at]},
                                  {"group", unseen.samples[at].group},
                                  {"answered", groups[at]}});
  }
  if (!is_final || comm.rank() != 0) return result;
  const ShardDataset& train = stage.train_data();
  std::vector<Image> pixels;
  std::vector<Sample> samples;
  for (int64_t i = 0; i < train.size(); ++i) {
    samples.push_back(train.get(i));
    pixels.push_back(samples.back().image);
  }
  const torch::Tensor labels = label_indices(groups_of(samples), stage.groups());
  const torch::Tensor wanted = label_indices(groups_of(unseen.samples), stage.groups());
  result["group_accuracy_majority"] = majority_accuracy(labels, wanted);
  result["group_accuracy_pixels"] = nearest_neighbour_accuracy(
      images_to_tensor(pixels), labels, unseen.images.to(torch::kCPU), wanted);
  return result;
}

// (N, 2 * stages): per sample and stage, share of codes that are the most likely ones when those
// before them are given, and the mean of -log p.
torch::Tensor teacher_forced(UnifiedStage& stage, Communicator& comm, const Split& split) {
  const int64_t stages = stage.model()->options().stages;
  const int64_t positions = stage.model()->options().image_positions;
  return gather_shares(comm, split.size(), {2 * stages}, [&](const torch::Tensor& indices) {
    SequencePacker packer(stage.tokens(), positions);
    for (int64_t i = 0; i < indices.size(0); ++i) {
      const auto at = static_cast<size_t>(indices[i].item<int64_t>());
      packer.add_draw(stage.encode(split.samples[at].caption));
    }
    TokenRows rows = stage.to_device(packer.rows());
    const torch::Tensor codes =
        split.codes.codes[0].index_select(0, indices.to(stage.device())).narrow(2, 0, stages);
    stage.set_image_inputs(rows, codes.narrow(1, 0, positions - 1), {});
    const torch::Tensor sums = sum_codes(stage.codebooks(), codes).flatten(1, 2);
    const torch::Tensor logits =
        stage.draw_logits(rows, packer.target_rows().to(stage.device()), sums).to(torch::kFloat);
    const torch::Tensor targets = codes.permute({2, 0, 1}).to(torch::kLong);  // (S, B, P)
    const torch::Tensor by_code = logits.view({stages, codes.size(0), positions, logits.size(2)});
    const torch::Tensor right = by_code.argmax(-1).eq(targets).to(torch::kFloat).mean(2);
    const torch::Tensor surprise =
        -by_code.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(2);
    return torch::cat({right, surprise}).t();
  });
}

struct Drawing {
  torch::Tensor images;           // (N, 3, S, S) on CPU
  torch::Tensor reconstructions;  // the tokenizer's own
};

Drawing draw_all(UnifiedStage& stage, Communicator& comm, const Split& split) {
  const std::vector<int64_t> shape = split.images.sizes().slice(1).vec();
  Drawing drawing;
  drawing.images = gather_shares(comm, split.size(), shape, [&](const torch::Tensor& indices) {
    std::vector<std::string> names;
    std::vector<int64_t> streams;
    for (int64_t i = 0; i < indices.size(0); ++i) {
      streams.push_back(indices[i].item<int64_t>());
      names.push_back(split.samples[static_cast<size_t>(streams.back())].caption);
    }
    return stage.image_tokenizer()->decode_pixels(
        stage.draw_codes(names, streams, stage.default_sampling(), kDrawSeed));
  });
  drawing.images.clamp_(-1, 1);
  drawing.reconstructions =
      stage.image_tokenizer()->decode_pixels(split.codes.codes[0]).to(torch::kCPU).clamp(-1, 1);
  return drawing;
}

double mean_psnr_db(const torch::Tensor& a, const torch::Tensor& b) {
  const torch::Tensor error = (a - b).pow(2).mean({1, 2, 3}).clamp_min(1e-10);
  return (10.0 * torch::log10(4.0 / error)).mean().item<double>();
}

// Share of drawn pictures whose nearest training picture is the one of that name.
double retrieval(UnifiedStage& stage, const torch::Tensor& drawn, const Split& seen) {
  const ShardDataset& train = stage.train_data();
  std::vector<Image> images;
  std::vector<std::string> captions;
  for (int64_t i = 0; i < train.size(); ++i) {
    Sample sample = train.get(i);
    images.push_back(std::move(sample.image));
    captions.push_back(std::move(sample.caption));
  }
  const torch::Tensor nearest =
      torch::cdist(drawn.flatten(1), images_to_tensor(images).flatten(1)).argmin(1);
  int64_t right = 0;
  for (int64_t i = 0; i < nearest.size(0); ++i) {
    right += captions[static_cast<size_t>(nearest[i].item<int64_t>())] ==
                     seen.samples[static_cast<size_t>(i)].caption
                 ? 1
                 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(std::max<int64_t>(1, nearest.size(0)));
}

// Rows of originals, the tokenizer's reconstructions and drawings, kColumns at a time.
std::string write_sheet(const Split& split, const Drawing& drawing, const std::string& path,
                        int64_t count) {
  const auto originals = tensor_to_images(split.images);
  const auto reconstructions = tensor_to_images(drawing.reconstructions);
  const auto drawn = tensor_to_images(drawing.images);
  std::vector<std::vector<Image>> rows;
  count = std::min(count, split.size());
  for (int64_t first = 0; first < count; first += kColumns) {
    const int64_t end = std::min(first + kColumns, count);
    for (const auto* images : {&originals, &reconstructions, &drawn}) {
      rows.emplace_back(images->begin() + first, images->begin() + end);
    }
  }
  write_png(path, contact_sheet(rows));
  return path;
}

json names_of(const Split& split, int64_t count) {
  json names = json::array();
  for (int64_t i = 0; i < std::min(count, split.size()); ++i) {
    names.push_back(split.samples[static_cast<size_t>(i)].caption);
  }
  return names;
}

std::vector<double> to_vector(const torch::Tensor& t) {
  const torch::Tensor d = t.to(torch::kDouble).contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}

// `count` of the training samples that drawing is trained on.
Split load_drawn(UnifiedStage& stage, int64_t count) {
  std::vector<int64_t> samples;
  for (const int64_t i : spread_indices(count, static_cast<int64_t>(stage.drawn().size()))) {
    samples.push_back(stage.drawn()[static_cast<size_t>(i)]);
  }
  return load_split(stage, stage.train_data(), samples);
}

json evaluate_generation(UnifiedStage& stage, Communicator& comm, const Split& unseen,
                         const EvaluationRequest& request, json& pictures) {
  const int64_t stages = stage.model()->options().stages;
  const torch::Tensor forced_seen =
      teacher_forced(stage, comm, load_drawn(stage, unseen.size())).mean(0);
  const torch::Tensor forced_unseen = teacher_forced(stage, comm, unseen).mean(0);
  const int64_t on_sheet = request.is_final ? 2 * kColumns : kColumns;
  const Split drawn_seen = load_drawn(stage, request.is_final ? 96 : kColumns);
  Split drawn_unseen = unseen;
  const int64_t kept = std::min(on_sheet, unseen.size());
  const torch::Tensor spread = torch::div(torch::arange(kept, torch::kLong) * unseen.size(),
                                          std::max<int64_t>(1, kept), "floor");
  drawn_unseen.samples.clear();
  for (int64_t i = 0; i < kept; ++i) {
    drawn_unseen.samples.push_back(unseen.samples[static_cast<size_t>(i * unseen.size() / kept)]);
  }
  drawn_unseen.images = unseen.images.index_select(0, spread.to(stage.device()));
  drawn_unseen.codes = {unseen.codes.codes.index_select(1, spread.to(stage.device())),
                        unseen.codes.semantics.index_select(1, spread.to(stage.device()))};
  const Drawing seen_drawing = draw_all(stage, comm, drawn_seen);
  const Drawing unseen_drawing = draw_all(stage, comm, drawn_unseen);
  json result = {
      {"code_accuracy_by_stage_seen", to_vector(forced_seen.narrow(0, 0, stages))},
      {"code_accuracy_by_stage_unseen", to_vector(forced_unseen.narrow(0, 0, stages))},
      {"code_loss_by_stage_seen", to_vector(forced_seen.narrow(0, stages, stages))},
      {"code_loss_by_stage_unseen", to_vector(forced_unseen.narrow(0, stages, stages))},
      {"draw_psnr_db_seen", mean_psnr_db(seen_drawing.images, seen_drawing.reconstructions)},
      {"drawn_names", stage.drawn().size()},
      {"drawn_seen", names_of(drawn_seen, on_sheet)},
      {"drawn_unseen", names_of(drawn_unseen, on_sheet)},
      {"drawn_columns", kColumns}};
  if (comm.rank() != 0) return result;
  if (request.is_final) {
    result["draw_retrieval_seen"] = retrieval(stage, seen_drawing.images, drawn_seen);
    result["draw_retrieval_chance"] = 1.0 / static_cast<double>(stage.train_data().size());
  }
  const std::string prefix = request.directory + "/" + request.picture_prefix + "-drawn-";
  pictures.push_back(write_sheet(drawn_seen, seen_drawing, prefix + "seen.png", on_sheet));
  pictures.push_back(write_sheet(drawn_unseen, unseen_drawing, prefix + "unseen.png", on_sheet));
  return result;
}

}  // namespace

std::vector<std::vector<int32_t>> write_answers(UnifiedStage& stage, UnifiedStage::Task task,
                                                const torch::Tensor& codes,
                                                const torch::Tensor& semantics,
                                                int64_t max_tokens) {
  SequencePacker packer(stage.tokens(), codes.size(1));
  for (int64_t i = 0; i < codes.size(0); ++i) {
    packer.add_read(stage.prompt_of(task), {}, /*with_targets=*/false);
  }
  TokenRows rows = stage.to_device(packer.rows());
  stage.set_image_inputs(rows, codes, semantics);
  return continue_text(stage.model(), rows, stage.tokens().end, max_tokens);
}

std::vector<std::string> write_captions(UnifiedStage& stage, const torch::Tensor& codes,
                                        const torch::Tensor& semantics, int64_t max_tokens) {
  std::vector<std::string> captions;
  for (const auto& ids :
       write_answers(stage, UnifiedStage::kCaption, codes, semantics, max_tokens)) {
    captions.push_back(replace_invalid_utf8(stage.text().decode(ids)));
  }
  return captions;
}

json evaluate_unified(UnifiedStage& stage, const RunConfig& config, Communicator& comm,
                      const EvaluationRequest& request) {
  const ShardDataset held_out(
      request.data.empty() ? config.data.test : request.data,
      ShardDatasetOptions{.skip_bad_samples = config.data.on_bad_sample == "skip",
                          .image_size = static_cast<int>(config.data.image_size),
                          .required_fields = {"caption", "group"}});
  const int64_t limit =
      request.is_final ? request.max_samples
                       : std::min<int64_t>(request.max_samples == 0 ? 64 : request.max_samples, 64);
  const Split unseen = load_split(stage, held_out, spread_indices(limit, held_out.size()));
  const Split seen = load_split(stage, stage.train_data(),
                                spread_indices(unseen.size(), stage.train_data().size()));
  json result = {{"pictures", json::array()}};
  result["understanding"] = evaluate_understanding(stage, comm, seen, unseen, request.is_final);
  result["generation"] = evaluate_generation(stage, comm, unseen, request, result["pictures"]);
  return result;
}

}  // namespace espalier
