// What a run was made from, as sixteen digits in its configuration: with other text, examples or
// weights under the same names it is not resumed.
#pragma once

#include <parsimony/finetune.hpp>
#include <parsimony/module.hpp>
#include <parsimony/pretrain.hpp>

#include <string>

namespace parsimony {

/// Of names, shapes and values.
std::string digest_of(const NamedParameters<float>& parameters);
/// Of the task's classes and of every example: ids, or pixels, and label.
std::string digest_of(const EncodedTask& task);
/// Of the sequences and of the tokens that their ids stand for.
std::string digest_of(const PackedCorpus& corpus, const Tokenizer& tokenizer);

}  // namespace parsimony
