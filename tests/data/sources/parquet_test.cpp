// Parquet as Hugging Face's data sets have it, written here by Arrow itself.
#include <arrow/api.h>
#include <arrow/io/api.h>
#include <parquet/arrow/writer.h>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/sources/dataset.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

// Columns image (a struct of bytes and path), text, and words (a list of texts).
void write_table(const std::string& path, const std::string& picture, int rows) {
  const auto of_image =
      arrow::struct_({arrow::field("bytes", arrow::binary()), arrow::field("path", arrow::utf8())});
  auto bytes = std::make_shared<arrow::BinaryBuilder>();
  auto names = std::make_shared<arrow::StringBuilder>();
  arrow::StructBuilder images(of_image, arrow::default_memory_pool(), {bytes, names});
  arrow::StringBuilder texts;
  auto word = std::make_shared<arrow::StringBuilder>();
  arrow::ListBuilder words(arrow::default_memory_pool(), word);
  for (int row = 0; row < rows; ++row) {
    ASSERT_TRUE(images.Append().ok() && bytes->Append(picture).ok() && names->AppendNull().ok());
    ASSERT_TRUE(texts.Append("cat " + std::to_string(row)).ok());
    ASSERT_TRUE(words.Append().ok() && word->Append("soft").ok() && word->Append("small").ok());
  }
  const auto table = arrow::Table::Make(
      arrow::schema({arrow::field("image", of_image), arrow::field("text", arrow::utf8()),
                     arrow::field("words", arrow::list(arrow::utf8()))}),
      {*images.Finish(), *texts.Finish(), *words.Finish()});
  const auto file = *arrow::io::FileOutputStream::Open(path);
  ASSERT_TRUE(
      parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, /*chunk_size=*/2)
          .ok());
}

TEST(Parquet, WithPicturesInTheRowsIsUnpackedOnceAndRead) {
  const TemporaryFolder folder;
  write_table(folder.file("train.parquet"), text_of(encode_png(test_pattern(6, 6))), 5);
  DatasetOptions options;
  options.cache = folder.file("cache");
  options.rename = {{"text", "caption"}};
  for (int time = 0; time < 2; ++time) {
    const Dataset dataset({folder.file("train.parquet")}, options);
    ASSERT_EQ(dataset.size(), 5);
    const Sample last = dataset.get(4);
    EXPECT_EQ(last.caption(), "cat 4");
    EXPECT_EQ(last.texts("words"), (std::vector<std::string>{"soft", "small"}));
    EXPECT_EQ(last.image.rgb, test_pattern(6, 6).rgb);
  }
}

TEST(Parquet, ThatIsDamagedIsNamed) {
  const TemporaryFolder folder;
  const auto path = folder.write("bad.parquet", "PAR1 is not enough");
  EXPECT_NE(message_of<DataError>([&] { Dataset({path}); }).find("bad.parquet"), std::string::npos);
}

}  // namespace
}  // namespace espalier
