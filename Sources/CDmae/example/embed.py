#!/usr/bin/python3
"""Features and classes of pictures, by the library for C and ctypes alone.

    embed.py WEIGHTS PICTURE.ppm... [--output FEATURES] [--library libdmae.so.0]

Reads PPM, the simplest of formats: a program of your own has pixels already. --output writes the features as raw floats.
With NumPy, an array's address is array.ctypes.data, and numpy.ctypeslib.as_array shows results without a copy.
"""
import argparse
import ctypes
import re
import sys


class Picture(ctypes.Structure):
    """dmae_picture"""
    _fields_ = [('pixels', ctypes.c_char_p), ('stride', ctypes.c_ssize_t), ('width', ctypes.c_int32),
                ('height', ctypes.c_int32), ('channels', ctypes.c_int32)]


class Prediction(ctypes.Structure):
    """dmae_prediction"""
    _fields_ = [('index', ctypes.c_int32), ('probability', ctypes.c_double)]


class Encoder:
    """An encoder in memory. Several threads may use one: ctypes releases Python's lock during a call."""

    def __init__(self, weights, library='libdmae.so.0'):
        self.library = ctypes.CDLL(library)
        for name, result, arguments in [
            ('error', ctypes.c_char_p, []),
            ('open', ctypes.c_int, [ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
            ('free', None, [ctypes.c_void_p]),
            ('encoder_features', ctypes.c_size_t, [ctypes.c_void_p]),
            ('encoder_classes', ctypes.c_int32, [ctypes.c_void_p]),
            ('encoder_class_name', ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int32]),
            ('encoder_description', ctypes.c_char_p, [ctypes.c_void_p]),
            ('encode', ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(Picture), ctypes.c_size_t,
                                      ctypes.POINTER(ctypes.c_float), ctypes.c_size_t]),
            ('classify', ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(Picture), ctypes.c_size_t, ctypes.c_size_t,
                                        ctypes.POINTER(Prediction), ctypes.c_size_t]),
        ]:
            function = getattr(self.library, 'dmae_' + name)
            function.restype, function.argtypes = result, arguments
        self.handle = ctypes.c_void_p()
        self.check(self.library.dmae_open(weights.encode(), None, ctypes.byref(self.handle)))
        self.features = self.library.dmae_encoder_features(self.handle)
        self.description = self.library.dmae_encoder_description(self.handle).decode()
        self.classes = [self.library.dmae_encoder_class_name(self.handle, index).decode()
                        for index in range(self.library.dmae_encoder_classes(self.handle))]

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.library.dmae_error().decode())

    def close(self):
        self.library.dmae_free(self.handle)
        self.handle = ctypes.c_void_p()

    def encode(self, pictures):
        """The features of pictures, one after another, as a ctypes array."""
        result = (ctypes.c_float * (len(pictures) * self.features))()
        self.check(self.library.dmae_encode(self.handle, (Picture * len(pictures))(*pictures), len(pictures), result,
                                            len(result)))
        return result

    def classify(self, pictures, best):
        """Of each picture its most probable classes: names and probabilities."""
        result = (Prediction * (len(pictures) * best))()
        self.check(self.library.dmae_classify(self.handle, (Picture * len(pictures))(*pictures), len(pictures), best,
                                              result, len(result)))
        named = [(self.classes[one.index], one.probability) for one in result]
        return [named[start:start + best] for start in range(0, len(named), best)]


def read_picture(path):
    """A binary PPM file with 8 bits a sample and no comments."""
    with open(path, 'rb') as file:
        header = re.match(rb'P6\s(\d+)\s(\d+)\s255\s', data := file.read())
    if header is None or len(data) - header.end() != int(header[1]) * int(header[2]) * 3:
        sys.exit(f'{path}: no binary PPM file that can be read')
    return Picture(data[header.end():], 0, int(header[1]), int(header[2]), 3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('weights')
    parser.add_argument('pictures', nargs='+')
    parser.add_argument('--output')
    parser.add_argument('--library', default='libdmae.so.0')
    arguments = parser.parse_args()
    try:
        encoder = Encoder(arguments.weights, arguments.library)
    except RuntimeError as error:
        sys.exit(f'{arguments.weights}: {error}')
    print(encoder.description, file=sys.stderr)
    pictures = [read_picture(path) for path in arguments.pictures]
    features = encoder.encode(pictures)
    for place, path in enumerate(arguments.pictures):
        first = features[place * encoder.features:place * encoder.features + 3]
        print(f'{path}  {encoder.features} floats: {" ".join(f"{value:g}" for value in first)} ...')
    if arguments.output:
        with open(arguments.output, 'wb') as file:
            file.write(features)
    if encoder.classes:
        best = min(5, len(encoder.classes))
        for path, predictions in zip(arguments.pictures, encoder.classify(pictures, best)):
            print('  '.join([path] + [f'{name} {100 * probability:.2f} %' for name, probability in predictions]))
    encoder.close()


if __name__ == '__main__':
    main()
