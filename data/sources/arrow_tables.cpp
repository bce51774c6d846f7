// CSV and Parquet by Arrow.
#include <algorithm>
#include <memory>
#include <utility>

#include <arrow/api.h>
#include <arrow/csv/api.h>
#include <arrow/io/api.h>
#include <parquet/arrow/reader.h>

#include "data/errors.h"
#include "data/sources/table_rows.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr int64_t kRowsAtOnce = 256;  // of Parquet: rows may hold pictures

void require(const arrow::Status& status, const std::string& path) {
  if (!status.ok()) throw DataError(path + ": " + status.message());
}

template <class T>
T value_of(arrow::Result<T> result, const std::string& path) {
  require(result.status(), path);
  return std::move(result).ValueUnsafe();
}

bool is_binary(const arrow::Scalar& scalar) {
  return scalar.type->id() == arrow::Type::BINARY || scalar.type->id() == arrow::Type::LARGE_BINARY;
}

std::string bytes_of(const arrow::Scalar& scalar) {
  const auto& buffer = dynamic_cast<const arrow::BaseBinaryScalar&>(scalar).value;
  return buffer == nullptr ? "" : buffer->ToString();
}

json json_of(const arrow::Scalar& scalar, std::string* picture);

json list_of(const arrow::Array& values, std::string* picture) {
  json list = json::array();
  for (int64_t i = 0; i < values.length(); ++i) {
    const auto item = values.GetScalar(i);
    if (item.ok()) list.push_back(json_of(**item, picture));
  }
  return list;
}

json object_of(const arrow::StructScalar& scalar, std::string* picture) {
  json object = json::object();
  for (int i = 0; i < scalar.type->num_fields(); ++i) {
    object[scalar.type->field(i)->name()] = json_of(*scalar.value[static_cast<size_t>(i)], picture);
  }
  return object;
}

// Bytes are the picture of the row, and null as JSON.
json json_of(const arrow::Scalar& scalar, std::string* picture) {
  if (!scalar.is_valid) return nullptr;
  if (is_binary(scalar)) {
    if (picture->empty()) *picture = bytes_of(scalar);
    return nullptr;
  }
  if (const auto* text = dynamic_cast<const arrow::BaseBinaryScalar*>(&scalar)) {
    return text->value->ToString();
  }
  if (const auto* list = dynamic_cast<const arrow::BaseListScalar*>(&scalar)) {
    return list_of(*list->value, picture);
  }
  if (const auto* object = dynamic_cast<const arrow::StructScalar*>(&scalar)) {
    return object_of(*object, picture);
  }
  if (const auto* flag = dynamic_cast<const arrow::BooleanScalar*>(&scalar)) return flag->value;
  return scalar.ToString();  // numbers, times: as they are written
}

// `number` is that of the last row before.
void read_batch(const arrow::RecordBatch& batch, const std::string& path, int64_t* number,
                const OnRow& on_row) {
  for (int64_t r = 0; r < batch.num_rows(); ++r) {
    TableRow row;
    row.number = ++*number;
    row.fields = json::object();
    for (int c = 0; c < batch.num_columns(); ++c) {
      const auto scalar = value_of(batch.column(c)->GetScalar(r), path);
      row.fields[batch.column_name(c)] = json_of(*scalar, &row.picture_bytes);
    }
    on_row(std::move(row));
  }
}

}  // namespace

void read_csv(const std::string& path, char separator, const OnRow& on_row) {
  const auto file = value_of(arrow::io::ReadableFile::Open(path), path);
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = separator;
  parse.newlines_in_values = true;
  auto convert = arrow::csv::ConvertOptions::Defaults();
  convert.strings_can_be_null = false;
  auto read = arrow::csv::ReadOptions::Defaults();
  read.use_threads = false;
  // Everything is text: what looks like a number in the first block may be none in a later one.
  const auto names = value_of(arrow::csv::StreamingReader::Make(arrow::io::default_io_context(),
                                                                file, read, parse, convert),
                              path);
  for (const std::string& name : names->schema()->field_names()) {
    convert.column_types[name] = arrow::utf8();
  }
  const auto again = value_of(arrow::io::ReadableFile::Open(path), path);
  const auto reader = value_of(arrow::csv::StreamingReader::Make(arrow::io::default_io_context(),
                                                                 again, read, parse, convert),
                               path);
  int64_t number = 1;  // the line of names
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    require(reader->ReadNext(&batch), path);
    if (batch == nullptr) return;
    read_batch(*batch, path, &number, on_row);
  }
}

void read_parquet(const std::string& path, const OnRow& on_row) {
  const auto file = value_of(arrow::io::ReadableFile::Open(path), path);
  parquet::arrow::FileReaderBuilder builder;
  require(builder.Open(file), path);
  parquet::ArrowReaderProperties properties;
  properties.set_batch_size(kRowsAtOnce);
  properties.set_use_threads(false);
  std::unique_ptr<parquet::arrow::FileReader> reader;
  require(builder.properties(properties)->Build(&reader), path);
  const auto batches = value_of(reader->GetRecordBatchReader(), path);
  int64_t number = 0;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    require(batches->ReadNext(&batch), path);
    if (batch == nullptr) return;
    read_batch(*batch, path, &number, on_row);
  }
}

}  // namespace espalier
