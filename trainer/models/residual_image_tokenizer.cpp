#include "trainer/models/residual_image_tokenizer.h"

#include "trainer/errors.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/named_things.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

// Keys the initial weights, together with the run's seed.
constexpr uint64_t kWeightSeed = 0x746f6b2d696e69ULL;

// Codebooks, and the two 3 x 3 convolutions of each residual block at the latent's resolution.
double least_numbers(const ModelConfig& config) {
  const auto& o = settings_as<ResidualImageTokenizerSettings>(config.settings).options;
  const auto channels = static_cast<double>(o.encoder_channels());
  return static_cast<double>(o.stages() * o.codebook_size) *
             static_cast<double>(o.latent_channels) +
         18 * channels * channels * static_cast<double>(o.encoder_blocks + o.decoder_blocks);
}

}  // namespace

void ResidualImageTokenizerSettings::declare(SettingsScope scope) {
  scope.add("image_size", options.image_size,
            {.help = "Side of its square images; a multiple of 8. The latent has a quarter of it.",
             .unit = "pixels",
             .min = 8,
             .max = 1024});
  scope.add("latent_channels", options.latent_channels,
            {.help = "Length of a code vector.", .unit = "channels", .min = 1, .max = 4096});
  scope.add("codebook_size", options.codebook_size,
            {.help = "Codes per stage of the residual quantizer.",
             .unit = "codes",
             .min = 2,
             .max = 65536});
  scope.add("pixel_stages", options.pixel_stages,
            {.help = "Early residual stages, from which the pixel decoder reads.",
             .unit = "stages",
             .min = 1,
             .max = 32});
  scope.add("semantic_stages", options.semantic_stages,
            {.help = "Deeper residual stages, supervised by a teacher.",
             .unit = "stages",
             .min = 0,
             .max = 32});
  scope.add("width", options.width,
            {.help = "Channels at half resolution; the latent's resolution has twice as many.",
             .unit = "channels",
             .min = 8,
             .max = 4096});
  scope.add(
      "encoder_blocks", options.encoder_blocks,
      {.help = "Residual blocks of the encoder at the latent's resolution.", .min = 0, .max = 100});
  scope.add("decoder_blocks", options.decoder_blocks,
            {.help = "Residual blocks of the pixel decoder at the latent's resolution.",
             .min = 0,
             .max = 100});
  scope.add("teacher_channels", options.teacher_channels,
            {.help = "Channels of the teacher's features, to which the semantic decoder projects.",
             .unit = "channels",
             .min = 1,
             .max = 65536});
  scope.add("codebook_decay", options.codebook_decay,
            {.help = "Decay per step of the averages that codebooks are made of.",
             .min = 0,
             .max = 0.9999});
  scope.add("restart_below", options.restart_below,
            {.help = "A code that fewer vectors per step choose, on average, is restarted; 0 = "
                     "never.",
             .unit = "vectors",
             .min = 0,
             .max = 1e9});
}

void ResidualImageTokenizerSettings::validate(const RunConfig& /*config*/,
                                              const std::string& where) const {
  if (options.image_size % 8 == 0) return;
  const int64_t below = options.image_size / 8 * 8;
  throw ConfigError(where + ".image_size = " + std::to_string(options.image_size) +
                    " is no multiple of 8; nearest right sizes: " + std::to_string(below) + " or " +
                    std::to_string(below + 8));
}

ResidualImageTokenizer::ResidualImageTokenizer(const ModelConfig& config, NamedThings& things)
    : name_(config.name) {
  auto options = settings_as<ResidualImageTokenizerSettings>(config.settings).options;
  options.latent_size = options.image_size / 4;
  const SeededStart seeded(static_cast<uint64_t>(things.config().seed) ^ kWeightSeed);
  module_ = ImageTokenizer(options);
  module_->to(things.device());
}

void require_image_size(const RunConfig& config, const std::string& model, const std::string& data,
                        const std::string& asked_by) {
  const ModelConfig& tokenizer = config.model_named(model, asked_by);
  const auto& settings = settings_as<ResidualImageTokenizerSettings>(tokenizer.settings);
  const int64_t size = config.data_named(data, asked_by + ".data").image_size;
  if (size == 0 || size == settings.options.image_size) return;  // 0: follows from the model
  throw ConfigError(asked_by + ": data." + data + ".image_size is " + std::to_string(size) +
                    ", but model." + model + " is for images of " +
                    std::to_string(settings.options.image_size) +
                    " pixels (image_size); leave data." + data + ".image_size out");
}

const TeacherFeatures& ResidualImageTokenizer::teacher_of(NamedThings& things,
                                                          const std::string& teacher,
                                                          const std::string& data,
                                                          const std::string& split,
                                                          bool mirrored) const {
  const int64_t side = options().latent_size / 2;
  const TeacherFeatures& found = things.teacher(teacher, data, split, side, mirrored);
  const int64_t channels = found.features.size(3);
  if (channels == options().teacher_channels) return found;
  throw ConfigError("teacher." + teacher + " has " + std::to_string(channels) +
                    " channels; set model." + name_ + ".teacher_channels to that");
}

std::vector<ParameterGroup> ResidualImageTokenizer::parameter_groups() {
  return {{name_, module_->parameters()}};
}

TensorMap ResidualImageTokenizer::state() {
  TensorMap state;
  for (const auto& item : module_->named_parameters()) state[item.key()] = item.value();
  for (const auto& item : module_->named_buffers()) state[item.key()] = item.value();
  return state;
}

void add_residual_image_tokenizer(Registry& registry) {
  registry.add(ModelKind{
      .name = "residual_image_tokenizer",
      .help = "One latent per image, quantized in cascaded stages: early ones for pixels, deeper "
              "ones toward meaning (EvoTok).",
      .make_settings = [] { return std::make_shared<ResidualImageTokenizerSettings>(); },
      .make =
          [](const ModelConfig& config, NamedThings& things) {
            return std::make_unique<ResidualImageTokenizer>(config, things);
          },
      .check_data =
          [](const RunConfig& config, const ModelConfig& model, const std::string& data,
             const std::string& asked_by) {
            require_image_size(config, model.name, data, asked_by);
          },
      .least_numbers = least_numbers});
}

}  // namespace espalier
