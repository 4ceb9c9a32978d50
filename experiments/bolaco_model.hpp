// The model of experiment bolaco that is trained here, and its texts.
#pragma once

#include <parsimony/experiment.hpp>

#include <string>

namespace parsimony::lab {

/// Writes captions of some photographs, train.txt, and of others, held_out.txt, into the folder.
/// `bytes` to train on, or with 0 all but those held out. @throws InputError, IoError.
void split_captions(const std::string& path, index_t bytes, const std::string& folder);

/// Trains a LLaMA and its vocabulary on train.txt of the folder, by the settings "own_...", and
/// saves both in its model/. @throws ValueError on bad settings.
void train_own(Stage& stage, const Config& c, const std::string& folder, const Rng& rng);

}  // namespace parsimony::lab
