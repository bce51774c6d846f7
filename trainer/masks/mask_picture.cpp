#include "trainer/masks/mask_picture.h"

#include <algorithm>
#include <string>

#include "data/images/lettering.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr int kMatrixPixels = 900;
constexpr int64_t kMostTokens = 8192;
constexpr int kLetters = 14;  // pixels an em
constexpr int kStrip = 14;    // of group colours along the edges
constexpr int kGap = 10;
const Colour kInk{40, 40, 40}, kPale{120, 120, 120}, kHidden{246, 246, 246}, kRule{30, 30, 30};
const Colour kGrid{222, 222, 222};

// Ten hues that stay apart for most colour-blind readers, then again in another lightness.
Colour colour_of(int64_t group) {
  constexpr std::array<Colour, 10> kHues{{{68, 119, 170},
                                          {34, 136, 51},
                                          {204, 187, 68},
                                          {238, 102, 119},
                                          {170, 51, 119},
                                          {102, 204, 238},
                                          {238, 119, 51},
                                          {0, 153, 136},
                                          {136, 102, 68},
                                          {119, 119, 204}}};
  Colour colour = kHues[static_cast<size_t>(group) % kHues.size()];
  for (int64_t round = group / 10; round > 0; --round) {
    for (uint8_t& level : colour) level = static_cast<uint8_t>((level + 255) / 2);
  }
  return colour;
}

class MaskPainter {
 public:
  MaskPainter(const MaskFile& file, const MaskLayout& layout)
      : groups_(file.description.groups), layout_(layout), letters_(kLetters) {
    tokens_ = static_cast<int>(layout.mask.rows());
    cell_ = std::clamp(kMatrixPixels / tokens_, 1, 28);
    is_timed_ = file.description.timesteps > 1;
    for (const TokenGroup& group : groups_) {
      name_width_ = std::max(name_width_, letters_.width(group.name));
    }
    left_ = kGap + name_width_ + kGap + kStrip + 2;
    top_ = kGap + (is_timed_ ? kLetters + kGap : 0) + kStrip + 2;
  }

  Image paint() {
    const int side = tokens_ * cell_;
    const int legend = kStrip + kGap + letters_.width(legend_of(longest_legend())) + 2 * kGap;
    const int legend_height = (static_cast<int>(groups_.size()) + 3) * (kLetters + kGap);
    image_ = blank_image(left_ + side + 2 * kGap + legend,
                         top_ + std::max(side, legend_height) + 2 * kGap);
    paint_cells();
    paint_grid();
    paint_edges();
    paint_legend(left_ + side + 2 * kGap);
    return std::move(image_);
  }

 private:
  const TokenGroup& group(const PlacedGroup& placed) const {
    return groups_[static_cast<size_t>(placed.group)];
  }

  std::string legend_of(const TokenGroup& group) const {
    return group.name + ": " + to_string(group.kind) + ", " + std::to_string(group.tokens) +
           (group.tokens == 1 ? " token" : " tokens") +
           (is_timed_ && group.is_once ? ", once" : "");
  }

  const TokenGroup& longest_legend() const {
    return *std::max_element(groups_.begin(), groups_.end(), [&](const auto& a, const auto& b) {
      return letters_.width(legend_of(a)) < letters_.width(legend_of(b));
    });
  }

  void paint_cells() {
    fill_rectangle(image_, left_, top_, tokens_ * cell_, tokens_ * cell_, kHidden);
    const auto& placed = layout_.placed;
    for (size_t a = 0; a < placed.size(); ++a) {
      const MaskGroup& asks = layout_.mask.groups()[a];
      for (const int64_t seen : asks.sees) {
        const PlacedGroup& other = placed[static_cast<size_t>(seen)];
        paint_block(placed[a].first, placed[a].length, other, other.length);
      }
      if (asks.rule == MaskRule::kNone) continue;
      for (int64_t t = 0; t < asks.length; ++t) {
        const int64_t width = asks.rule == MaskRule::kFull ? asks.length : t + 1;
        paint_block(placed[a].first + t, 1, placed[a], width);
      }
    }
  }

  void paint_block(int64_t row, int64_t rows, const PlacedGroup& seen, int64_t columns) {
    fill_rectangle(image_, left_ + static_cast<int>(seen.first) * cell_,
                   top_ + static_cast<int>(row) * cell_, static_cast<int>(columns) * cell_,
                   static_cast<int>(rows) * cell_, colour_of(seen.group));
  }

  // Between cells where they are large, and always, darker, between timesteps.
  void paint_grid() {
    const int side = tokens_ * cell_;
    const auto line = [&](int place, const Colour& colour, int width) {
      fill_rectangle(image_, left_ + place, top_, width, side, colour);
      fill_rectangle(image_, left_, top_ + place, side, width, colour);
    };
    if (cell_ >= 6) {
      for (int token = 0; token <= tokens_; ++token) line(token * cell_, kGrid, 1);
    }
    for (size_t i = 1; i < layout_.placed.size(); ++i) {
      const PlacedGroup& here = layout_.placed[i];
      const int place = static_cast<int>(here.first) * cell_;
      if (here.timestep != layout_.placed[i - 1].timestep) {
        line(place - 1, kRule, cell_ > 2 ? 2 : 1);
      } else if (cell_ >= 6) {
        line(place, kPale, 1);
      }
    }
  }

  void paint_edges() {
    int64_t timestep = -2;
    int last_name = -kLetters;
    for (const PlacedGroup& here : layout_.placed) {
      const int place = static_cast<int>(here.first) * cell_;
      const int length = static_cast<int>(here.length) * cell_;
      fill_rectangle(image_, left_ - kStrip - 2, top_ + place, kStrip, length,
                     colour_of(here.group));
      fill_rectangle(image_, left_ + place, top_ - kStrip - 2, length, kStrip,
                     colour_of(here.group));
      // Names where there is room for them.
      const int middle = place + length / 2;
      if (middle - last_name >= kLetters) {
        letters_.draw(image_, left_ - kStrip - kGap - letters_.width(group(here).name),
                      top_ + middle + kLetters / 3, group(here).name, kInk);
        last_name = middle;
      }
      if (is_timed_ && here.timestep != timestep && here.timestep >= 0) {
        letters_.draw(image_, left_ + place, kGap + kLetters,
                      (here.timestep == 0 ? "timestep " : "") + std::to_string(here.timestep),
                      kInk);
      }
      timestep = here.timestep;
    }
  }

  void paint_legend(int x) {
    int y = top_;
    const auto row = [&] { return y += kLetters + kGap; };
    letters_.draw(image_, x, y + kLetters - 2, "Rows ask, columns are seen.", kInk);
    row();
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (groups_[g].tokens == 0) continue;
      fill_rectangle(image_, x, y, kStrip, kStrip, colour_of(static_cast<int64_t>(g)));
      letters_.draw(image_, x + kStrip + kGap, y + kLetters - 2, legend_of(groups_[g]), kInk);
      row();
    }
    const AttentionMask& mask = layout_.mask;
    const int64_t percent_tenths =
        1000 * mask.visible() / (static_cast<int64_t>(tokens_) * tokens_);
    letters_.draw(image_, x, y + kLetters - 2,
                  std::to_string(tokens_) + " tokens, " + std::to_string(percent_tenths / 10) +
                      "." + std::to_string(percent_tenths % 10) + " % visible",
                  kPale);
  }

  const std::vector<TokenGroup>& groups_;
  const MaskLayout& layout_;
  Lettering letters_;
  Image image_;
  int tokens_ = 0, cell_ = 1, name_width_ = 0, left_ = 0, top_ = 0;
  bool is_timed_ = false;
};

}  // namespace

Image mask_picture(const MaskFile& file, const MaskLayout& layout) {
  if (layout.mask.rows() > kMostTokens) {
    throw ConfigError(file.path + ": a picture holds " + std::to_string(kMostTokens) +
                      " tokens at most, this mask has " + std::to_string(layout.mask.rows()) +
                      "; make it smaller with --set");
  }
  return MaskPainter(file, layout).paint();
}

}  // namespace espalier
