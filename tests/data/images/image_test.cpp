#include "data/images/image.h"

#include <algorithm>

#include <gtest/gtest.h>

#include <stdexcept>

namespace espalier {
namespace {

// One channel repeated three times.
Image grey(int width, int height, const std::vector<uint8_t>& levels) {
  Image image{width, height, {}};
  for (const uint8_t level : levels) image.rgb.insert(image.rgb.end(), 3, level);
  return image;
}

TEST(Resize, AveragesAreaWhenItShrinks) {
  const Image image = grey(4, 2, {0, 100, 10, 30, 200, 100, 50, 70});
  EXPECT_EQ(resize(image, 2, 1).rgb, grey(2, 1, {100, 40}).rgb);
}

TEST(Resize, WeighsPartlyCoveredPixels) {
  // 3 to 2: a target pixel covers one source pixel and half of the next.
  EXPECT_EQ(resize(grey(3, 1, {0, 90, 240}), 2, 1).rgb, grey(2, 1, {30, 190}).rgb);
}

TEST(Resize, InterpolatesBetweenCentresWhenItGrows) {
  EXPECT_EQ(resize(grey(2, 1, {0, 200}), 4, 1).rgb, grey(4, 1, {0, 50, 150, 200}).rgb);
  EXPECT_EQ(resize(grey(1, 1, {77}), 3, 2).rgb, grey(3, 2, std::vector<uint8_t>(6, 77)).rgb);
}

TEST(Resize, KeepsConstantPicturesConstant) {
  for (const int size : {1, 3, 16, 31, 33, 100})
    EXPECT_EQ(resize(blank_image(32, 20, 201), size, size).rgb, blank_image(size, size, 201).rgb);
}

TEST(Resize, KeepsChannelsApart) {
  const Image image{2, 1, {10, 20, 30, 30, 40, 50}};
  EXPECT_EQ(resize(image, 1, 1).rgb, (std::vector<uint8_t>{20, 30, 40}));
}

TEST(Resize, RefusesEmptyPicturesAndSizes) {
  EXPECT_THROW(resize(Image{}, 4, 4), std::invalid_argument);
  EXPECT_THROW(resize(blank_image(2, 2), 0, 4), std::invalid_argument);
  EXPECT_THROW(resize(Image{2, 2, {1, 2, 3}}, 1, 1), std::invalid_argument);
}

TEST(FitSquare, PadsWithWhiteInsteadOfCroppingOrStretching) {
  const Image fitted = fit_square(blank_image(8, 4, 0), 4);  // becomes 4 x 2 in the middle
  EXPECT_EQ(fitted.rgb,
            grey(4, 4, {255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255}).rgb);
}

TEST(FitSquare, LeavesAPictureOfTheRightSizeAlone) {
  const Image image = grey(2, 2, {1, 2, 3, 4});
  EXPECT_EQ(fit_square(image, 2).rgb, image.rgb);
  EXPECT_EQ(fit_square(image, 2, SquareFit::kCrop).rgb, image.rgb);
}

TEST(FitSquare, CropsToTheMiddleOrStretchesWhereAsked) {
  Image wide = blank_image(8, 4, 0);  // black, but white columns at both ends
  for (int y = 0; y < 4; ++y) {
    for (const int x : {0, 1, 6, 7}) std::fill_n(wide.rgb.begin() + 3 * (8 * y + x), 3, 255);
  }
  EXPECT_EQ(fit_square(wide, 4, SquareFit::kCrop).rgb, blank_image(4, 4, 0).rgb);
  const Image stretched = fit_square(wide, 4, SquareFit::kStretch);
  EXPECT_EQ(stretched.rgb, resize(wide, 4, 4).rgb);
  EXPECT_EQ(stretched.rgb[0], 255);
  EXPECT_EQ(fit_square(blank_image(3, 10, 7), 5, SquareFit::kCrop).rgb, blank_image(5, 5, 7).rgb);
}

}  // namespace
}  // namespace espalier
