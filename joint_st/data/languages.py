"""Languages by their BCP 47 tags, their ISO 639-2 and 639-3 codes, and their English names."""

from __future__ import annotations

_LANGUAGES = """
af afr Afrikaans; am amh Amharic; an arg Aragonese; ar ara arb Arabic; as asm Assamese; az aze azj Azerbaijani;
ba bak Bashkir; be bel Belarusian; bg bul Bulgarian; bn ben Bengali; bpy Bishnupriya; bs bos Bosnian;
ca cat Catalan; chr Cherokee; zh chi zho cmn Chinese; cs ces cze Czech; cv chv Chuvash; cy cym wel Welsh;
da dan Danish; de deu ger German; el ell gre Greek; en eng English; eo epo Esperanto; es spa Spanish;
et est ekk Estonian; eu baq eus Basque; fa fas per pes Persian; fi fin Finnish; fo fao Faroese; fr fra fre French;
ga gle Irish; gd gla Scottish Gaelic; gn grn Guarani; grc Ancient Greek; gu guj Gujarati; hak Hakka; haw Hawaiian;
he heb Hebrew; hi hin Hindi; hr hrv Croatian; ht hat Haitian; hu hun Hungarian; hy arm hye Armenian;
hyw Western Armenian; ia ina Interlingua; id ind Indonesian; io ido Ido; is ice isl Icelandic; it ita Italian;
ja jpn Japanese; jbo Lojban; ka geo kat Georgian; kaa Kara-Kalpak; kk kaz Kazakh; kl kal Greenlandic;
kn kan Kannada; ko kor Korean; kok Konkani; ku kur Kurdish; ky kir Kyrgyz; la lat Latin; lb ltz Luxembourgish;
lfn Lingua Franca Nova; lt lit Lithuanian; ltg Latgalian; lv lav lvs Latvian; mi mao mri Maori;
mk mac mkd Macedonian; ml mal Malayalam; mr mar Marathi; ms may msa zsm Malay; mt mlt Maltese; mto Totontepec Mixe;
my bur mya Burmese; nb nob nor Norwegian; nci Classical Nahuatl; ne nep npi Nepali; nl dut nld Dutch; nog Nogai;
om orm Oromo; or ori ory Oriya; pa pan Punjabi; pap Papiamento; pl pol Polish; pt por Portuguese; qu que Quechua;
quc Kiche; ro ron rum Romanian; ru rus Russian; sd snd Sindhi; shn Shan; si sin Sinhala; sk slk slo Slovak;
sl slv Slovenian; smj Lule Sami; sq alb sqi Albanian; sr srp Serbian; sv swe Swedish; sw swa swh Swahili;
ta tam Tamil; te tel Telugu; th tha Thai; ti tir Tigrinya; tk tuk Turkmen; tn tsn Tswana; tr tur Turkish;
tt tat Tatar; ug uig Uyghur; uk ukr Ukrainian; ur urd Urdu; uz uzb uzn Uzbek; vi vie Vietnamese; yue Cantonese
"""
"""The languages that espeak-ng speaks: the tag, further codes of three letters, and the name. From CLDR 45."""

_TAGS: dict[str, str] = {}
for _row in _LANGUAGES.split(";"):
    _tag, *_others = _row.split()
    _codes = [word for word in _others if word.islower()]
    _name = " ".join(word for word in _others if not word.islower()).lower()
    _TAGS |= dict.fromkeys((_tag, *_codes, _name), _tag)
_TAGS |= {"mandarin": "zh", "nno": "nn", "farsi": "fa", "castilian": "es", "flemish": "nl"}


def bcp_47(language: str) -> str:
    """Return the BCP 47 tag of a language that is given as a tag (`en_US`), a code of three letters, or an English
    name.

    The result is in lower case with hyphens, also for text that is none of these.
    """
    tag = " ".join(language.split()).replace("_", "-").lower()
    if tag in _TAGS:
        return _TAGS[tag]
    first, hyphen, rest = tag.partition("-")
    return f"{_TAGS.get(first, first)}{hyphen}{rest}"
