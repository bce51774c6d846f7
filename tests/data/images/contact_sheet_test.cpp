#include "data/images/contact_sheet.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace espalier {
namespace {

uint8_t red_at(const Image& image, int x, int y) {
  return image.rgb[size_t{3} * (static_cast<size_t>(y) * image.width + x)];
}

TEST(ContactSheet, LaysOutRowsWithGapsAndZoom) {
  const Image sheet =
      contact_sheet({{blank_image(2, 2, 10), blank_image(2, 2, 20)}, {blank_image(2, 2, 30)}},
                    {.zoom = 3, .gap = 1});
  ASSERT_EQ(sheet.width, 1 + 2 * (6 + 1));
  ASSERT_EQ(sheet.height, 1 + 2 * (6 + 1));
  EXPECT_EQ(red_at(sheet, 0, 0), 255);
  EXPECT_EQ(red_at(sheet, 1, 1), 10);
  EXPECT_EQ(red_at(sheet, 6, 6), 10);
  EXPECT_EQ(red_at(sheet, 7, 6), 255);
  EXPECT_EQ(red_at(sheet, 8, 1), 20);
  EXPECT_EQ(red_at(sheet, 1, 8), 30);
  EXPECT_EQ(red_at(sheet, 8, 8), 255);  // the short row is filled with white
}

TEST(ContactSheet, CentresSmallerPictures) {
  const Image sheet =
      contact_sheet({{blank_image(4, 4, 0), blank_image(2, 2, 9)}}, {.zoom = 1, .gap = 0});
  EXPECT_EQ(red_at(sheet, 4, 0), 255);
  EXPECT_EQ(red_at(sheet, 5, 1), 9);
  EXPECT_EQ(red_at(sheet, 6, 2), 9);
  EXPECT_EQ(red_at(sheet, 7, 3), 255);
}

TEST(ContactSheet, RefusesAnEmptyGrid) {
  EXPECT_THROW(contact_sheet({}), std::invalid_argument);
  EXPECT_THROW(contact_sheet({{}, {}}), std::invalid_argument);
  EXPECT_THROW(contact_sheet({{blank_image(1, 1)}}, {.zoom = 0}), std::invalid_argument);
}

}  // namespace
}  // namespace espalier
