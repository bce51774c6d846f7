// Random small configs on random small data, some of them wrong: what the dry run passes trains,
// and what it refuses does not. ESPALIER_FUZZ_SEED and ESPALIER_FUZZ_COUNT try others, and more.

#include <cstdlib>
#include <filesystem>
#include <random>
#include <sstream>

#include "data/images/image_codec.h"
#include "fault/command_test.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

constexpr int kCases = 6;  // of each seed

// Draws what a case is made of. Most draws are right, so that some whole cases are.
class CaseMaker {
 public:
  CaseMaker(const std::string& folder, uint64_t seed) : folder_(folder), random_(seed) {}

  int ranks() const { return ranks_; }

  // Writes the data, and returns the config.
  std::string make() {
    ranks_ = 1 + static_cast<int>(below(2));
    const int64_t image_size = rarely() ? 20 : pick({8, 16, 24});
    std::ostringstream toml;
    toml << "seed = 5\nrun.directory = \"" << folder_ << "/run\"\n"
         << "[log]\ntensorboard = false\n[compute]\nthreads_per_rank = 1\n";
    write_data(toml, image_size);
    write_models(toml, image_size);
    write_stages(toml);
    return toml.str();
  }

 private:
  size_t below(size_t limit) { return static_cast<size_t>(random_() % limit); }
  bool rarely() { return below(16) == 0; }
  bool often() { return below(3) > 0; }
  int64_t pick(const std::vector<int64_t>& choices) { return choices[below(choices.size())]; }

  void write_picture(const std::string& path) {
    if (rarely() && rarely()) {
      std::ofstream(path) << "no picture";
      return;
    }
    Image image{1 + static_cast<int>(below(40)), 1 + static_cast<int>(below(40)), {}};
    const size_t bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3;
    const auto grey = static_cast<uint8_t>(random_());
    for (size_t i = 0; i < bytes; ++i) image.rgb.push_back(static_cast<uint8_t>(grey + i % 7));
    write_png(path, image);
  }

  void write_split(const std::string& split, size_t samples, bool has_captions, bool has_groups) {
    const std::string path = folder_ + "/" + split;
    fs::create_directories(path);
    const std::vector<std::string> words = {"red", "ball", "of", "the", "cat", "\xc3\xa9t\xc3\xa9"};
    for (size_t i = 0; i < samples; ++i) {
      const std::string name = path + "/" + std::to_string(i);
      write_picture(name + ".png");
      std::string caption;
      for (size_t w = below(rarely() ? 200 : 5) + (rarely() ? 0 : 1); w > 0; --w) {
        caption += words[below(words.size())] + (w > 1 ? " " : "");
      }
      std::string fields;
      if (has_captions || i % 2 > 0) fields += "\"caption\": \"" + caption + "\"";
      if (has_groups) {
        fields += std::string(fields.empty() ? "" : ", ") + "\"group\": \"" +
                  words[below(below(3) + 1)] + "\"";
      }
      std::ofstream(name + ".json") << "{" << fields << "}\n";
    }
  }

  void write_data(std::ostringstream& toml, int64_t image_size) {
    const bool has_captions = !rarely(), has_groups = !rarely();
    toml << "[data.mine]\n";
    if (often()) toml << "image_size = " << (rarely() ? 32 : image_size) << "\n";
    if (rarely()) toml << "on_bad_sample = \"skip\"\n";
    for (const char* split : {"train", "validation", "test"}) {
      const bool is_train = std::string(split) == "train";
      if (!is_train && !often()) continue;
      toml << split << " = \"" << folder_ << "/" << split << "\"\n";
      const size_t samples = rarely() ? 0 : static_cast<size_t>(pick({1, 1, 2, 3, 5, 12}));
      write_split(split, samples, has_captions, has_groups);
    }
  }

  void write_models(std::ostringstream& toml, int64_t image_size) {
    toml << "[text.words]\ndata = \"mine\"\nvocabulary_size = " << pick({300, 320, 5000}) << "\n"
         << "[model.tokenizer]\nkind = \"residual_image_tokenizer\"\nimage_size = " << image_size
         << "\nwidth = " << pick({8, 9, 16}) << "\nlatent_channels = " << pick({1, 4, 8})
         << "\ncodebook_size = " << pick({2, 16}) << "\npixel_stages = " << pick({1, 2})
         << "\nsemantic_stages = " << pick({0, 1}) << "\nencoder_blocks = " << pick({0, 1})
         << "\ndecoder_blocks = " << pick({0, 1}) << "\n";
    const int64_t heads = rarely() ? 3 : pick({1, 2});
    toml << "[model.y]\nkind = \"y_decoder\"\nimage_tokenizer = \"tokenizer\"\ntext = \"words\"\n"
         << "width = " << (rarely() ? 33 : 16) << "\nheads = " << heads
         << "\nkv_heads = " << (rarely() ? 5 : 1)
         << "\nfeed_forward_width = 16\ntrunk_layers = " << pick({0, 1})
         << "\ndepth_width = 8\ndepth_heads = " << pick({1, 2})
         << "\ndepth_layers = 1\ndepth_feed_forward_width = 8\nmax_text_tokens = " << pick({8, 64})
         << "\n[model.y.branch.reads]\nlayers = " << pick({0, 1})
         << "\n[model.y.branch.draws]\nlayers = 1\nhead = \"codes\"\n";
  }

  void begin_stage(std::ostringstream& toml, const std::string& name, const std::string& trains) {
    const int64_t micro = pick({1, 2, 3});
    const int64_t batch = rarely() ? 7 : micro * ranks_ * pick({1, 2});
    toml << "[[stage]]\nname = \"" << name << "\"\ntrains = \"" << trains
         << "\"\nsteps = " << pick({1, 3}) << "\nbatch_size = " << batch
         << "\nmicro_batch_size = " << micro << "\nprecision = \"" << (often() ? "fp32" : "bf16")
         << "\"\n";
    if (rarely()) toml << "freeze = [\"nothing.*\"]\n";
    if (rarely()) toml << "[stage.optimizer]\nwarmup_steps = 50\n";
  }

  void add_objective(std::ostringstream& toml, const std::string& kind, const std::string& more) {
    toml << "[[stage.objectives]]\nkind = \"" << kind << "\"\ndata = \""
         << (rarely() && rarely() ? "yours" : "mine") << "\"\nshare = " << pick({0, 1, 1, 2})
         << "\n"
         << more;
  }

  void write_stages(std::ostringstream& toml) {
    if (often()) {
      begin_stage(toml, "codes", "tokenizer");
      const bool has_both = often();
      if (has_both || often()) add_objective(toml, "residual_evolution", "");
      if (has_both) {
        add_objective(toml, "masked_patches",
                      "width = 8\nmask_ratio = " + std::string(often() ? "0.75" : "0.95") + "\n");
      }
    }
    begin_stage(toml, "both", "y");
    if (often()) add_objective(toml, "caption", "branch = \"reads\"\n");
    if (often()) {
      add_objective(toml, "answer",
                    std::string("branch = \"reads\"\nquestion = \"what?\"\nfield = \"") +
                        (rarely() ? "colour" : "group") + "\"\n");
    }
    if (often()) {
      add_objective(toml, "draw",
                    std::string("branch = \"") + (rarely() ? "reads" : "draws") +
                        "\"\nsamples = " + std::to_string(pick({0, 1, 100})) + "\n");
    }
  }

  const std::string folder_;
  Random random_;
  int ranks_ = 1;
};

class DryRunProperty : public CommandTest, public testing::WithParamInterface<uint64_t> {
 protected:
  // What is different from what it should be; "" when all is well. Counts what trained.
  void try_case(uint64_t seed, int& trained) {
    const TemporaryFolder folder;
    CaseMaker maker(folder.file("case"), seed);
    fs::create_directories(folder.file("case"));
    const std::string text = maker.make(), config = folder.write("config.toml", text);
    const std::vector<std::string> launch = {"launch", config, "-n", std::to_string(maker.ranks())};
    std::vector<std::string> dry = launch;
    dry.emplace_back("--dry-run");
    const Result passed = espalier(dry);
    const Result trains = espalier(launch);
    const auto about = [&] {
      return "seed " + std::to_string(seed) + ", " + std::to_string(maker.ranks()) +
             " ranks\n---- dry run: " + std::to_string(passed.exit_code) + "\n" + passed.output +
             "\n---- launch: " + std::to_string(trains.exit_code) + "\n" + trains.output +
             "\n---- config\n" + text;
    };
    EXPECT_TRUE(passed.exit_code == 0 || passed.exit_code == 64) << about();
    EXPECT_EQ(trains.exit_code, passed.exit_code) << about();
    if (passed.exit_code == 0) {
      ++trained;
    } else {
      EXPECT_EQ(newest_checkpoint(folder.file("case/run")), -1) << about();
      EXPECT_EQ(trained_steps(folder.file("case/run")), -1) << about();
    }
  }
};

TEST_P(DryRunProperty, WhatItPassesTrainsAndWhatItRefusesDoesNot) {
  const char* const seed_text = std::getenv("ESPALIER_FUZZ_SEED");
  const char* const count_text = std::getenv("ESPALIER_FUZZ_COUNT");
  const uint64_t first =
      GetParam() + (seed_text == nullptr ? 0 : std::strtoull(seed_text, nullptr, 10));
  const int count = count_text == nullptr ? kCases : std::atoi(count_text);
  int trained = 0;
  for (int i = 0; i < count; ++i) try_case(first + static_cast<uint64_t>(i), trained);
  std::printf("seeds %llu to %llu: %d of %d trained\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first) + static_cast<unsigned long long>(count) - 1,
              trained, count);
}

INSTANTIATE_TEST_SUITE_P(Seeds, DryRunProperty, testing::Values(1000, 2000));

}  // namespace
}  // namespace espalier
