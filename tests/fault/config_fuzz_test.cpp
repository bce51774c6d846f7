// Random mistakes in valid configs: each is either no mistake, or refused with exit 64 and a
// message that names a key or a file. ESPALIER_FUZZ_SEED and ESPALIER_FUZZ_COUNT try others, and
// more.

#include <chrono>
#include <cstdlib>
#include <regex>

#include "fault/command_test.h"
#include "fault/config_mutation.h"

namespace espalier {
namespace {

constexpr double kHang_s = 60;

int64_t number_from(const char* name, int64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

class ConfigFuzz : public testing::TestWithParam<int64_t> {
 protected:
  // Small, and with what is in the sources: no teacher has to be prepared.
  static std::vector<std::string> valid_configs() {
    std::string small = read_file(source_path("configs/quickstart.toml"));
    const auto replace = [&](const std::string& pattern, const std::string& by) {
      small = std::regex_replace(small, std::regex(pattern), by);
    };
    replace(R"(directory = [^\n]*)",
            "directory = \"runs/config-fuzz\"");  // not what a quickstart left
    replace(R"(train = \[[^\]]*\])", "train = [\"data/emoji/emoji-32-validation.tar\"]");
    replace(R"(\[teacher\.lite0\]\n[^\[]*)", "");
    replace(R"((^|\n)teacher = [^\n]*)", "");
    replace(R"(teacher = "lite0",? ?)", "");
    replace(R"(\nbatch_size = \d+)", "\nbatch_size = 8");
    replace(R"(\nmicro_batch_size = \d+)", "\nmicro_batch_size = 2");
    replace(R"(\nimage_tokenizer = )", "\nwidth = 32\nheads = 2\nkv_heads = 2\nimage_tokenizer = ");
    const std::string tiny = read_file(source_path("tests/fault/tiny.toml"));
    return {tiny, tiny, small, read_file(source_path("configs/world-babyai.toml"))};
  }
  struct Outcome {
    int exit_code;
    std::string output;
    double seconds;
  };
  Outcome dry_run(const std::string& config) {
    const auto start = std::chrono::steady_clock::now();
    Program program(
        {ESPALIER_PROGRAM, "launch", folder_.write("config.toml", config), "--dry-run", "-n", "2"},
        folder_.file("output"));
    const int exit_code = program.wait(kHang_s);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    const std::string output = program.output();
    std::filesystem::remove(folder_.file("output"));
    return {exit_code, output, taken.count()};
  }

  TemporaryFolder folder_;
};

TEST_P(ConfigFuzz, ValidConfigsPassTheDryRun) {
  for (const std::string& config : valid_configs()) {
    const Outcome outcome = dry_run(config);
    const bool has_data = config.find("[episodes.") == std::string::npos;
    EXPECT_EQ(outcome.exit_code, has_data ? 0 : 64) << outcome.output;
  }
}

TEST_P(ConfigFuzz, EveryMistakeIsRefusedByNameOrIsNone) {
  const int64_t seed = number_from("ESPALIER_FUZZ_SEED", 0) + GetParam();
  const int64_t count = number_from("ESPALIER_FUZZ_COUNT", 50);
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  const std::vector<std::string> valid = valid_configs();
  const std::regex name(R"([a-z_]+\.[a-zA-Z_*]+|/|\[\[)");
  double slowest = 0;
  int64_t refused = 0;
  for (int64_t i = 0; i < count; ++i) {
    const MutatedConfig config = mutate_config(valid[random() % valid.size()], random);
    const Outcome outcome = dry_run(config.text);
    const auto about = [&] {
      return "seed " + std::to_string(seed) + ", config " + std::to_string(i) + ": " +
             config.mutations + "\n---- exit code " + std::to_string(outcome.exit_code) + "\n" +
             outcome.output.substr(0, 2000) + "\n---- config\n" + config.text;
    };
    EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 64) << about();
    if (outcome.exit_code == 64) {
      EXPECT_TRUE(std::regex_search(outcome.output, name)) << about();
      ++refused;
    }
    slowest = std::max(slowest, outcome.seconds);
  }
  std::printf("seed %lld: %lld of %lld refused, the slowest took %.1f s\n",
              static_cast<long long>(seed), static_cast<long long>(refused),
              static_cast<long long>(count), slowest);
  EXPECT_GT(refused, count / 4) << "these are no mistakes";
}

INSTANTIATE_TEST_SUITE_P(Seed, ConfigFuzz, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace espalier
