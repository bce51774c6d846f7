#include "trainer/tokenizer_evaluation.h"

#include <algorithm>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "data/order/random.h"
#include "models/image_tokenizer/feature_losses.h"
#include "models/masked_autoencoder/masking.h"
#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/host/collective_text.h"
#include "trainer/image_codes.h"
#include "trainer/teacher_features.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kImagesAtOnce = 64;
constexpr int64_t kPictures = 16;
constexpr uint64_t kMaskStream = 0x746f6b2d6d736bULL;

// Sums what every rank has; the parts that other ranks worked on are zero here.
at::Tensor sum_over_ranks(Communicator& comm, const at::Tensor& tensor) {
  const at::Tensor sum = tensor.to(communication_device(comm)).contiguous();
  comm.all_reduce(sum)->wait();
  return sum.to(at::kCPU);
}

std::vector<double> numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

// PSNR of each image, then the mean. Values span [-1, 1], so the peak is 2.
at::Tensor mean_psnr_db(const at::Tensor& squared_error) {
  return squared_error.clamp_min(1e-12).div(4.0).log10().mul(-10.0).mean(0);
}

template <class Visit>  // visit(begin, count)
void in_batches(int64_t begin, int64_t count, Visit visit) {
  for (int64_t at = 0; at < count; at += kImagesAtOnce) {
    visit(begin + at, std::min(kImagesAtOnce, count - at));
  }
}

}  // namespace

TokenizerEvaluation::Rows TokenizerEvaluation::rows_of_rank(const Communicator& comm,
                                                            int64_t total) {
  const int64_t per_rank = (total + comm.size() - 1) / comm.size();
  const int64_t begin = std::min(total, per_rank * comm.rank());
  return {begin, std::min(per_rank, total - begin)};
}

at::Tensor TokenizerEvaluation::model_images(const TokenizerData& data, Rows rows) const {
  return data.images.narrow(0, rows.begin, rows.count)
      .to(device_, at::kFloat)
      .div_(127.5)
      .sub_(1.0);
}

nlohmann::json TokenizerEvaluation::run(ImageTokenizer& model, const TokenizerData& train,
                                        const at::Tensor& teacher_mean, Communicator& comm,
                                        const EvaluationRequest& request) {
  const torch::NoGradGuard no_gradient;
  const PrecisionGuard precision(device_.type(), stage_.precision);
  const TokenizerData& test = test_data(comm, teacher_mean, request);
  const at::Tensor codes = encode_all(model, test, comm);
  nlohmann::json result;
  result["images"] = test.size();
  add_pixels(model, test, codes, comm, result);
  if (test.teacher.defined()) add_teacher(model, test, codes, comm, result);
  if (request.is_final) {
    if (train.is_empty() && train_.is_empty()) {
      train_ = read_tokenizer_data(config_.data.train, config_);
    }
    const TokenizerData& reference = train.is_empty() ? train_ : train;
    const at::Tensor mean_image =
        reference.images.to(at::kFloat).mean(0, true).div_(127.5).sub_(1.0);
    const at::Tensor error = (model_images(test, {0, test.size()}).to(at::kCPU) - mean_image)
                                 .square_()
                                 .flatten(1)
                                 .mean(1);
    result["psnr_db_mean_image"] = mean_psnr_db(error).item<double>();
    add_groups(model, reference, encode_all(model, reference, comm), test, codes, comm, result);
  }
  nlohmann::json report{{"tokenizer", result}};
  if (comm.rank() == 0) {
    report["pictures"] = nlohmann::json::array({write_pictures(model, test, codes, request)});
  }
  return report;
}

const TokenizerData& TokenizerEvaluation::test_data(Communicator& comm,
                                                    const at::Tensor& teacher_mean,
                                                    const EvaluationRequest& request) {
  const bool is_own = request.data.empty();
  std::vector<std::string> paths = is_own ? config_.data.test : request.data;
  paths.push_back("at most " + std::to_string(request.max_samples));
  if (paths == test_paths_) return test_;
  test_paths_ = paths;
  paths.pop_back();
  test_ = read_tokenizer_data(paths, config_);
  if (request.max_samples > 0 && request.max_samples < test_.size()) {
    test_.images = test_.images.narrow(0, 0, request.max_samples).clone();
    test_.groups.resize(static_cast<size_t>(request.max_samples));
    test_.fingerprint += "-first-" + std::to_string(request.max_samples);
  }
  if (!config_.teacher.weights.empty()) {
    const std::string cache = is_own ? teacher_cache_path(config_, "test") : "";
    test_.teacher = teacher_features(comm, config_.teacher, test_.images, test_.fingerprint,
                                     /*mirrored=*/false, cache);
    centre_features(test_.teacher, teacher_mean.to(at::kCPU));
  }
  return test_;
}

at::Tensor TokenizerEvaluation::encode_all(ImageTokenizer& model, const TokenizerData& data,
                                           Communicator& comm) const {
  const ImageTokenizerOptions& options = model->options();
  const at::Tensor codes =
      at::zeros({data.size(), options.positions(), options.stages()}, at::kLong);
  const Rows rows = rows_of_rank(comm, data.size());
  in_batches(rows.begin, rows.count, [&](int64_t begin, int64_t count) {
    codes.narrow(0, begin, count).copy_(model->encode(model_images(data, {begin, count})));
  });
  return sum_over_ranks(comm, codes).to(device_);
}

void TokenizerEvaluation::add_pixels(ImageTokenizer& model, const TokenizerData& data,
                                     const at::Tensor& codes, Communicator& comm,
                                     nlohmann::json& result) const {
  const ImageTokenizerOptions& options = model->options();
  at::Tensor error = at::zeros({data.size(), options.pixel_stages});
  const Rows rows = rows_of_rank(comm, data.size());
  in_batches(rows.begin, rows.count, [&](int64_t begin, int64_t count) {
    const at::Tensor images = model_images(data, {begin, count});
    for (int64_t stage = 0; stage < options.pixel_stages; ++stage) {
      const at::Tensor decoded = model->decode_pixels(codes.narrow(0, begin, count), stage + 1);
      error.narrow(0, begin, count)
          .select(1, stage)
          .copy_((decoded - images).square_().flatten(1).mean(1));
    }
  });
  error = sum_over_ranks(comm, error);
  result["psnr_db_by_stage"] = numbers(mean_psnr_db(error));
  // Of the error over all pixels of all images: lower, because hard images weigh more.
  result["psnr_db_of_mean_error_by_stage"] = numbers(error.mean(0).div(4.0).log10().mul(-10.0));
  std::vector<double> usage;
  for (int64_t stage = 0; stage < options.stages(); ++stage) {
    const at::Tensor used =
        at::bincount(codes.select(2, stage).flatten().to(at::kCPU), {}, options.codebook_size);
    usage.push_back(used.gt(0).to(at::kDouble).mean().item<double>());
  }
  result["code_usage_by_stage"] = usage;
}

void TokenizerEvaluation::add_teacher(ImageTokenizer& model, const TokenizerData& data,
                                      const at::Tensor& codes, Communicator& comm,
                                      nlohmann::json& result) const {
  const ImageTokenizerOptions& options = model->options();
  const int64_t positions = options.positions();
  const int64_t keep = visible_count(positions, config_.tokenizer.mask_ratio);
  const at::Tensor sums = at::zeros({options.stages() + 1}, at::kDouble);
  const Rows rows = rows_of_rank(comm, data.size());
  in_batches(rows.begin, rows.count, [&](int64_t begin, int64_t count) {
    const at::Tensor teacher = data.teacher.narrow(0, begin, count).select(1, 0).to(device_);
    for (int64_t stage = 0; stage < options.stages(); ++stage) {
      const at::Tensor features = model->teacher_space(codes.narrow(0, begin, count), stage + 1);
      sums[stage] += cosine_of_rows(features, teacher).to(at::kDouble).sum().to(at::kCPU);
    }
    at::Tensor noise = at::empty({count, positions});
    auto* values = noise.mutable_data_ptr<float>();
    for (int64_t i = 0; i < count; ++i) {  // by image, so that ranks and batches do not matter
      CounterRng random(static_cast<uint64_t>(config_.seed),
                        combine_streams(kMaskStream, static_cast<uint64_t>(begin + i)));
      for (int64_t p = 0; p < positions; ++p) *values++ = static_cast<float>(random.uniform());
    }
    const at::Tensor visible = mask_from_noise(noise, keep).visible().contiguous();
    VisibleGrid grid = make_visible_grid(visible, options.latent_size);
    grid = {grid.visible.to(device_), grid.fine_neighbours.to(device_),
            grid.coarse_neighbours.to(device_)};
    const at::Tensor mimic = model->mimic(model_images(data, {begin, count}), grid);
    const at::Tensor target =
        teacher.flatten(0, 1).index_select(0, model->teacher_rows(grid.visible));
    sums[options.stages()] += cosine_of_rows(mimic, target).to(at::kDouble).sum().to(at::kCPU);
  });
  const at::Tensor total = sum_over_ranks(comm, sums);
  const auto images = static_cast<double>(data.size());
  const at::Tensor tokens = total.narrow(0, 0, options.stages());
  result["semantic_cosine_by_stage"] =
      numbers(tokens / (images * static_cast<double>(positions / 4)));
  result["mimic_cosine"] =
      total[options.stages()].item<double>() / (images * static_cast<double>(keep));
}

void TokenizerEvaluation::add_groups(ImageTokenizer& model, const TokenizerData& train,
                                     const at::Tensor& train_codes, const TokenizerData& test,
                                     const at::Tensor& test_codes, Communicator& comm,
                                     nlohmann::json& result) const {
  const std::vector<std::string> names = sorted_unique(train.groups);
  if (names.size() < 2) return;  // nothing to tell apart
  const at::Tensor train_labels = label_indices(train.groups, names);
  const at::Tensor test_labels = label_indices(test.groups, names);
  const int64_t stages = model->options().stages();
  const auto pooled = [&](const at::Tensor& codes) {  // (stages, N, teacher channels)
    const at::Tensor all = at::zeros({stages, codes.size(0), model->options().teacher_channels});
    const Rows rows = rows_of_rank(comm, codes.size(0));
    in_batches(rows.begin, rows.count, [&](int64_t begin, int64_t count) {
      for (int64_t stage = 0; stage < stages; ++stage) {
        all[stage]
            .narrow(0, begin, count)
            .copy_(model->teacher_space(codes.narrow(0, begin, count), stage + 1).mean(1));
      }
    });
    return sum_over_ranks(comm, all);
  };
  const at::Tensor train_features = pooled(train_codes), test_features = pooled(test_codes);
  std::vector<double> accuracy;
  for (int64_t stage = 0; stage < stages; ++stage) {
    accuracy.push_back(nearest_neighbour_accuracy(train_features[stage], train_labels,
                                                  test_features[stage], test_labels));
  }
  result["group_knn_by_stage"] = accuracy;
  result["group_majority"] = majority_accuracy(train_labels, test_labels);
  result["group_knn_pixels"] = nearest_neighbour_accuracy(train.images.to(at::kFloat), train_labels,
                                                          test.images.to(at::kFloat), test_labels);
  if (train.teacher.defined() && test.teacher.defined()) {
    const auto pool = [](const at::Tensor& features) {
      return features.select(1, 0).to(at::kFloat).mean(1);
    };
    result["group_knn_teacher"] = nearest_neighbour_accuracy(pool(train.teacher), train_labels,
                                                             pool(test.teacher), test_labels);
  }
}

std::string TokenizerEvaluation::write_pictures(ImageTokenizer& model, const TokenizerData& data,
                                                const at::Tensor& codes,
                                                const EvaluationRequest& request) const {
  const int64_t columns = std::min(kPictures, data.size());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < columns; ++i) chosen.push_back(i * data.size() / columns);
  const at::Tensor index = torch::tensor(chosen, at::kLong);
  const at::Tensor originals =
      data.images.index_select(0, index).to(at::kFloat).div_(127.5).sub_(1.0);
  std::vector<std::vector<Image>> rows{tensor_to_images(originals)};
  const at::Tensor chosen_codes = codes.index_select(0, index.to(device_));
  for (int64_t stage = 0; stage < model->options().pixel_stages; ++stage) {
    rows.push_back(tensor_to_images(model->decode_pixels(chosen_codes, stage + 1)));
  }
  const std::string path =
      request.directory + "/" + request.picture_prefix + "-reconstructions.png";
  write_png(path, contact_sheet(rows));
  return path;
}

}  // namespace espalier
