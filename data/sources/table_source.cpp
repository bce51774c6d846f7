// Tables whose rows are samples: CSV, TSV, JSONL, a JSON list, Parquet.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/sample_json.h"
#include "data/shards/tar_writer.h"
#include "data/sources/source_builders.h"
#include "data/sources/table_rows.h"

namespace espalier {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Names under which tables of other people keep the picture.
constexpr std::array<std::string_view, 8> kImageFields = {
    "image", "file_name", "image_path", "images", "filepath", "path", "filename", "img"};

void read_jsonl(const std::string& path, const OnRow& on_row) {
  std::ifstream file(path);
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (line.size() > static_cast<size_t>(kMaxTextBytes)) {
      throw DataError(path + ": line " + std::to_string(number) + " is above 1 MiB");
    }
    on_row({number,
            parse_object({reinterpret_cast<const uint8_t*>(line.data()), line.size()},
                         path + ": line " + std::to_string(number)),
            ""});
  }
}

void read_json_list(const std::string& path, const OnRow& on_row) {
  std::ifstream file(path);
  json list;
  try {
    list = json::parse(file);
  } catch (const json::parse_error& error) {
    throw DataError(path + ": not JSON: " + error.what());
  }
  if (!list.is_array()) throw DataError(path + ": the JSON is not a list of objects");
  int64_t number = 0;
  for (json& item : list) {
    ++number;
    if (!item.is_object()) {
      throw DataError(path + ": item " + std::to_string(number) + " is not an object");
    }
    on_row({number, std::move(item), ""});
  }
}

void read_rows(const std::string& path, const OnRow& on_row) {
  const std::string extension = lower_case(fs::path(path).extension().string());
  if (extension == ".csv") return read_csv(path, ',', on_row);
  if (extension == ".tsv") return read_csv(path, '\t', on_row);
  if (extension == ".parquet") return read_parquet(path, on_row);
  if (extension == ".json") return read_json_list(path, on_row);
  read_jsonl(path, on_row);
}

class TableIndexer {
 public:
  TableIndexer(const std::string& path, const BuildOptions& options, SourceIndexWriter& index)
      : path_(path),
        options_(options),
        index_(index),
        root_(options.image_root.empty() ? fs::absolute(path).parent_path()
                                         : fs::absolute(options.image_root)) {}

  void add(TableRow row) {
    const std::string name = path_ + ": row " + std::to_string(row.number);
    try {
      if (row.picture_bytes.empty()) {
        add_file(std::move(row), name);
      } else {
        add_bytes(std::move(row), name);
      }
    } catch (const DataError& error) {
      index_.reject(error.what());
    }
    if (options_.on_samples && index_.size() % 1000 == 0) options_.on_samples(index_.size());
  }

  void finish() {
    if (!unpacked_) return;
    unpacked_->finish();
    index_.set_container(options_.unpacked);
  }

 private:
  // The names of pictures in one column; none where there is no such column.
  static std::vector<std::string> names_in(const json& value) {
    std::vector<std::string> names;
    for (const json& item : value.is_array() ? value : json::array({value})) {
      const json name = item.is_object() ? item.value("path", json()) : item;
      if (!name.is_string() || name.get<std::string>().empty()) return {};
      names.push_back(name.get<std::string>());
    }
    return names;
  }

  // The names of the row's pictures, taken out of its fields; else those that its messages name.
  std::vector<std::string> take_images(json& fields) const {
    std::vector<std::string> columns(kImageFields.begin(), kImageFields.end());
    if (!options_.image_field.empty()) columns = {options_.image_field};
    for (const std::string& column : columns) {
      if (!fields.contains(column)) continue;
      std::vector<std::string> names = names_in(fields[column]);
      if (names.empty()) continue;
      fields.erase(column);
      return names;
    }
    return pictures_named(fields);
  }

  [[noreturn]] void refuse_without_image(const json& fields, const std::string& name) const {
    std::string there;
    for (const auto& [key, value] : fields.items()) there += (there.empty() ? "" : ", ") + key;
    throw DataError(
        name + ": no picture" +
        (options_.image_field.empty() ? " in a column image, file_name, image_path, path"
                                      : " in the column " + options_.image_field) +
        "; the columns are " + there + ". Name the right one with data.NAME.image_field");
  }

  PicturePlace place_of(const std::string& image, const std::string& name) const {
    if (image.find("://") != std::string::npos) {
      throw DataError(name + ": " + image +
                      " is an address; pictures are read from disk, so fetch them first");
    }
    const std::string path = (root_ / image).string();
    if (!fs::exists(path)) {
      throw DataError(name + ": there is no picture " + path +
                      " (relative names begin at data.NAME.image_root, or beside the table)");
    }
    const ReadOnlyFile picture(path);
    const uint64_t digest = check_picture(picture, 0, picture.size(), options_, name + ": " + path);
    return {.called = image, .file = path, .digest = digest};
  }

  void add_file(TableRow row, const std::string& name) {
    std::vector<PicturePlace> pictures;
    for (const std::string& image : take_images(row.fields)) {
      pictures.push_back(place_of(image, name));
    }
    if (pictures.empty()) refuse_without_image(row.fields, name);
    add_sample(index_, std::to_string(row.number), row.fields, pictures, name);
  }

  void add_bytes(TableRow row, const std::string& name) {
    for (const std::string_view field : kImageFields) row.fields.erase(std::string(field));
    const std::string& bytes = row.picture_bytes;
    if (std::ssize(bytes) > kMaxPictureBytes) throw DataError(name + ": image above 256 MiB");
    const std::span<const uint8_t> span(reinterpret_cast<const uint8_t*>(bytes.data()),
                                        bytes.size());
    const uint64_t digest = check_picture(span, options_, name);
    if (!unpacked_) unpacked_ = std::make_unique<TarWriter>(options_.unpacked);
    const std::string key = std::to_string(row.number);
    const int64_t offset = unpacked_->add(key + ".image", span);
    const PicturePlace place{.offset = offset, .size = std::ssize(bytes), .digest = digest};
    add_sample(index_, key, row.fields, {place}, name);
  }

  const std::string& path_;
  const BuildOptions& options_;
  SourceIndexWriter& index_;
  fs::path root_;
  std::unique_ptr<TarWriter> unpacked_;
};

}  // namespace

void index_table(const std::string& path, const BuildOptions& options, SourceIndexWriter& index) {
  TableIndexer indexer(path, options, index);
  read_rows(path, [&](TableRow row) { indexer.add(std::move(row)); });
  indexer.finish();
}

}  // namespace espalier
