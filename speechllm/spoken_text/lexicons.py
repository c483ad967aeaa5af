"""What each language says for its signs, units, sums of money, months and short forms, as tables."""

from __future__ import annotations

from dataclasses import dataclass, field


def _table(lines: str) -> dict[str, str]:
    """ "a: b; c: d" as a dictionary."""
    return dict(entry.strip().split(": ", 1) for entry in lines.split(";") if entry.strip())


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


@dataclass(frozen=True)
class Lexicon:
    """How a language writes numbers, and what it says for signs and short forms ("one|many" where number matters)."""

    group: str  # between thousands
    mark: str  # before decimals
    point: str  # how the mark is said
    signs: dict[str, str]
    units: dict[str, str] = field(default_factory=dict)
    money: dict[str, str] = field(default_factory=dict)  # coins after "/"
    amount: str = ""  # "{whole} {coins}"
    months: tuple[str, ...] = ()
    date: str = ""
    parts: tuple[str, ...] = ()  # half, third, … tenth
    one: str = ""
    short: dict[str, str] = field(default_factory=dict)  # anywhere
    titles: dict[str, str] = field(default_factory=dict)  # before a capital
    numbered: dict[str, str] = field(default_factory=dict)  # before a digit


ENGLISH = Lexicon(
    group=",",
    mark=".",
    point="point",
    signs=_table(
        "-: minus; %: percent; &: and; @: at; +: plus; =: equals; ×: times; ÷: divided by; <: less than; "
        "~: about; >: greater than; ≈: about; ±: plus or minus; §: section; #: number; °: degrees; "
        "€: euros; $: dollars; £: pounds; ¥: yen; to: to; by: by; and: and; over: over; dot: dot; "
        "slash: slash; dash: dash; _: underscore; ²: squared; ³: cubed; ≤: at most; ≥: at least"
    ),
    units=_table(
        "%: one percent|percent; °C: one degree Celsius|degrees Celsius; "
        "°F: one degree Fahrenheit|degrees Fahrenheit; °: one degree|degrees; kg: one kilogram|kilograms; "
        "g: one gram|grams; mg: one milligram|milligrams; t: one ton|tons; km: one kilometer|kilometers; "
        "m: one meter|meters; cm: one centimeter|centimeters; mm: one millimeter|millimeters; "
        "km/h: one kilometer per hour|kilometers per hour; l: one liter|liters; "
        "m/s: one meter per second|meters per second; mph: one mile per hour|miles per hour; "
        "mi: one mile|miles; ft: one foot|feet; lb: one pound|pounds; lbs: one pound|pounds; "
        "oz: one ounce|ounces; L: one liter|liters; ml: one milliliter|milliliters; "
        "m²: one square meter|square meters; h: one hour|hours; s: one second|seconds; "
        "km²: one square kilometer|square kilometers; m³: one cubic meter|cubic meters; "
        "min: one minute|minutes; ms: one millisecond|milliseconds; KB: one kilobyte|kilobytes; "
        "kB: one kilobyte|kilobytes; V: one volt|volts; MB: one megabyte|megabytes; "
        "GB: one gigabyte|gigabytes; TB: one terabyte|terabytes; Hz: one hertz|hertz; "
        "kHz: one kilohertz|kilohertz; MHz: one megahertz|megahertz; GHz: one gigahertz|gigahertz; "
        "W: one watt|watts; kW: one kilowatt|kilowatts; kWh: one kilowatt hour|kilowatt hours; "
        "¢: one cent|cents; k: one thousand|thousand"
    ),
    money=_table(
        "$: one dollar|dollars/one cent|cents; £: one pound|pounds/one penny|pence; "
        "€: one euro|euros/one cent|cents; ¥: one yen|yen/one sen|sen; "
        "USD: one dollar|dollars/one cent|cents; EUR: one euro|euros/one cent|cents; "
        "GBP: one pound|pounds/one penny|pence"
    ),
    amount="{whole} and {coins}",
    months=_words("January February March April May June July August September October November December"),
    date="{month} {day}, {year}",
    parts=_words(
        "half|halves third|thirds quarter|quarters fifth|fifths sixth|sixths seventh|sevenths eighth|eighths "
        "ninth|ninths tenth|tenths"
    ),
    one="one",
    short=_table(
        "Mr.: Mister; Mr: Mister; Mrs.: Missus; Mrs: Missus; Ms.: Miz; Ms: Miz; vs.: versus; vs: versus; "
        "etc.: et cetera; e.g.: for example; i.e.: that is; Inc.: Incorporated; Ltd.: Limited; "
        "Ltd: Limited; Jr.: Junior; Sr.: Senior; Corp.: Corporation; Bros.: Brothers; Ave.: Avenue; "
        "Blvd.: Boulevard; Rd.: Road; Dept.: Department; dept.: department; approx.: approximately; "
        "a.k.a.: also known as; w/o: without; w/: with; cf.: compare; Ph.D.: pee aitch dee; "
        "PhD: pee aitch dee; a.m.: ay em; p.m.: pee em; OK: okay; Co.: Company; est.: established; "
        "govt.: government; 24/7: twenty-four seven; 9/11: nine eleven"
    ),
    titles=_table(
        "Dr.: Doctor; Dr: Doctor; St.: Saint; St: Saint; Prof.: Professor; Gen.: General; Col.: Colonel; "
        "Capt.: Captain; Lt.: Lieutenant; Sgt.: Sergeant; Rev.: Reverend; Gov.: Governor; Sen.: Senator; "
        "Rep.: Representative; Mt.: Mount; Ft.: Fort; Hon.: Honorable; Pres.: President"
    ),
    numbered=_table(
        "No.: number; no.: number; Nos.: numbers; p.: page; pp.: pages; vol.: volume; Apt.: apartment; "
        "Vol.: volume; fig.: figure; Fig.: figure; ch.: chapter; Ch.: chapter; No: number; №: number"
    ),
)
GERMAN = Lexicon(
    group=".",
    mark=",",
    point="Komma",
    signs=_table(
        "-: minus; %: Prozent; &: und; @: at; +: plus; =: gleich; ×: mal; ÷: geteilt durch; "
        "<: kleiner als; >: größer als; ~: ungefähr; ≈: ungefähr; ±: plus minus; §: Paragraf; #: Nummer; "
        "°: Grad; €: Euro; $: Dollar; £: Pfund; to: bis; by: mal; and: und; over: durch; dot: Punkt; "
        "slash: Schrägstrich; dash: minus; _: Unterstrich; ²: hoch zwei; ³: hoch drei"
    ),
    units=_table(
        "%: ein Prozent|Prozent; °C: ein Grad Celsius|Grad Celsius; °: ein Grad|Grad; "
        "kg: ein Kilogramm|Kilogramm; g: ein Gramm|Gramm; mg: ein Milligramm|Milligramm; "
        "t: eine Tonne|Tonnen; km: ein Kilometer|Kilometer; m: ein Meter|Meter; "
        "cm: ein Zentimeter|Zentimeter; mm: ein Millimeter|Millimeter; l: ein Liter|Liter; "
        "km/h: ein Kilometer pro Stunde|Kilometer pro Stunde; ml: ein Milliliter|Milliliter; "
        "kW: ein Kilowatt|Kilowatt; m²: ein Quadratmeter|Quadratmeter; "
        "km²: ein Quadratkilometer|Quadratkilometer; h: eine Stunde|Stunden; min: eine Minute|Minuten; "
        "s: eine Sekunde|Sekunden; MB: ein Megabyte|Megabyte; GB: ein Gigabyte|Gigabyte; "
        "Hz: ein Hertz|Hertz; kWh: eine Kilowattstunde|Kilowattstunden; Uhr: ein Uhr|Uhr"
    ),
    money=_table(
        "€: ein Euro|Euro/ein Cent|Cent; $: ein Dollar|Dollar/ein Cent|Cent; "
        "£: ein Pfund|Pfund/ein Penny|Pence; EUR: ein Euro|Euro/ein Cent|Cent; "
        "Euro: ein Euro|Euro/ein Cent|Cent"
    ),
    amount="{whole} {bare}",
    months=_words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
    date="{day} {month} {year}",
    parts=_words("halb|Halbe Drittel Viertel Fünftel Sechstel Siebtel Achtel Neuntel Zehntel"),
    one="ein",
    short=_table(
        "z. B.: zum Beispiel; d. h.: das heißt; u. a.: unter anderem; u. U.: unter Umständen; "
        "i. d. R.: in der Regel; usw.: und so weiter; bzw.: beziehungsweise; ca.: circa; evtl.: eventuell; "
        "ggf.: gegebenenfalls; inkl.: inklusive; vgl.: vergleiche; Mio.: Millionen; Mrd.: Milliarden; "
        "etc.: et cetera; Str.: Straße; Dr.: Doktor; Prof.: Professor; Tel.: Telefon; "
        "v. Chr.: vor Christus; n. Chr.: nach Christus; sog.: sogenannt"
    ),
    titles=_table("Hr.: Herr; Fr.: Frau; St.: Sankt"),
    numbered=_table("Nr.: Nummer; S.: Seite; Bd.: Band; Abb.: Abbildung; Kap.: Kapitel"),
)
FRENCH = Lexicon(
    group=" ",
    mark=",",
    point="virgule",
    signs=_table(
        "-: moins; %: pour cent; &: et; @: arobase; +: plus; =: égale; ×: fois; ÷: divisé par; "
        "<: inférieur à; >: supérieur à; ~: environ; ≈: environ; ±: plus ou moins; §: paragraphe; "
        "#: numéro; °: degrés; €: euros; $: dollars; £: livres; to: à; by: sur; and: et; over: sur; "
        "dot: point; slash: barre oblique; dash: tiret; _: tiret bas; ²: au carré; ³: au cube"
    ),
    units=_table(
        "%: un pour cent|pour cent; °C: un degré Celsius|degrés Celsius; °: un degré|degrés; "
        "g: un gramme|grammes; kg: un kilogramme|kilogrammes; mg: un milligramme|milligrammes; "
        "t: une tonne|tonnes; m: un mètre|mètres; km: un kilomètre|kilomètres; "
        "cm: un centimètre|centimètres; mm: un millimètre|millimètres; l: un litre|litres; "
        "km/h: un kilomètre par heure|kilomètres par heure; ml: un millilitre|millilitres; "
        "min: une minute|minutes; m²: un mètre carré|mètres carrés; "
        "km²: un kilomètre carré|kilomètres carrés; s: une seconde|secondes"
    ),
    money=_table(
        "€: un euro|euros/un centime|centimes; $: un dollar|dollars/un cent|cents; "
        "£: une livre|livres/un penny|pence; EUR: un euro|euros/un centime|centimes; "
        "euros: un euro|euros/un centime|centimes"
    ),
    amount="{whole} {bare}",
    months=_words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
    date="{day} {month} {year}",
    parts=_words(
        "demi|demis tiers quart|quarts cinquième|cinquièmes sixième|sixièmes septième|septièmes huitième|huitièmes "
        "neuvième|neuvièmes dixième|dixièmes"
    ),
    one="un",
    short=_table(
        "Mme: Madame; Mlle: Mademoiselle; etc.: et cetera; p. ex.: par exemple; c.-à-d.: c'est-à-dire; "
        "env.: environ; av. J.-C.: avant Jésus-Christ; apr. J.-C.: après Jésus-Christ; Ste: Sainte"
    ),
    titles=_table(
        "M.: Monsieur; MM.: Messieurs; Dr: Docteur; Dr.: Docteur; Pr: Professeur; St: Saint; av.: avenue; "
        "bd: boulevard; Me: Maître"
    ),
    numbered=_table("n°: numéro; N°: numéro; nº: numéro; p.: page; chap.: chapitre; vol.: volume; art.: article"),
)
SPANISH = Lexicon(
    group=".",
    mark=",",
    point="coma",
    signs=_table(
        "-: menos; %: por ciento; &: y; @: arroba; +: más; =: igual a; ×: por; ÷: entre; <: menor que; "
        ">: mayor que; ~: unos; ≈: unos; ±: más o menos; §: sección; #: número; °: grados; €: euros; "
        "$: dólares; £: libras; to: a; by: por; and: y; over: sobre; dot: punto; slash: barra; "
        "dash: guion; _: guion bajo; ²: al cuadrado; ³: al cubo"
    ),
    units=_table(
        "%: uno por ciento|por ciento; °C: un grado Celsius|grados Celsius; °: un grado|grados; "
        "l: un litro|litros; kg: un kilogramo|kilogramos; g: un gramo|gramos; mg: un miligramo|miligramos; "
        "t: una tonelada|toneladas; km: un kilómetro|kilómetros; m: un metro|metros; "
        "cm: un centímetro|centímetros; s: un segundo|segundos; mm: un milímetro|milímetros; "
        "km/h: un kilómetro por hora|kilómetros por hora; ml: un mililitro|mililitros; "
        "m²: un metro cuadrado|metros cuadrados; h: una hora|horas; min: un minuto|minutos"
    ),
    money=_table(
        "€: un euro|euros/un céntimo|céntimos; $: un dólar|dólares/un centavo|centavos; "
        "£: una libra|libras/un penique|peniques; EUR: un euro|euros/un céntimo|céntimos; "
        "euros: un euro|euros/un céntimo|céntimos"
    ),
    amount="{whole} con {coins}",
    months=_words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
    date="{day} de {month} de {year}",
    parts=_words(
        "medio|medios tercio|tercios cuarto|cuartos quinto|quintos sexto|sextos séptimo|séptimos octavo|octavos "
        "noveno|novenos décimo|décimos"
    ),
    one="un",
    short=_table(
        "Sr.: Señor; Sra.: Señora; Srta.: Señorita; Sres.: Señores; Dr.: Doctor; Dra.: Doctora; "
        "Prof.: Profesor; Profa.: Profesora; Ud.: usted; Uds.: ustedes; etc.: etcétera; "
        "p. ej.: por ejemplo; EE. UU.: Estados Unidos; a. C.: antes de Cristo; d. C.: después de Cristo; "
        "aprox.: aproximadamente"
    ),
    titles=_table("D.: Don; Av.: Avenida; Avda.: Avenida; Sto.: Santo; Sta.: Santa"),
    numbered=_table(
        "n.º: número; núm.: número; pág.: página; págs.: páginas; cap.: capítulo; art.: artículo; vol.: volumen"
    ),
)
LEXICONS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}
LEXICONS |= {
    code: Lexicon(group, ",", point, {"-": minus, "%": percent})
    for code, group, point, minus, percent in (
        ("it", ".", "virgola", "meno", "per cento"),
        ("nl", ".", "komma", "min", "procent"),
        ("cs", " ", "celá", "minus", "procent"),
        ("ru", " ", "запятая", "минус", "процентов"),
        ("pl", " ", "przecinek", "minus", "procent"),
        ("pt", ".", "vírgula", "menos", "por cento"),
        ("sv", " ", "komma", "minus", "procent"),
    )
}
_SAID = "ay bee see dee ee eff jee aitch eye jay kay ell em en oh pee cue ar ess tee you vee double-you ex why zee"
NAMES = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _words(_SAID), strict=True))  # English, spelled as they sound
ORDINARY = frozenset(  # short words that capitals only stress
    _words(
        "am an as at be by do go he if in is me my no of on or so to up we the and for are but not you all any "
        "can had her was one our out day get has him his how man new now old see two way who boy did its let put "
        "say she too use dad mom yes off big bad top why end run far ago few try ask men red hot add war pay car "
        "eat job fun god oh hi ah ha hey pin sim ram rom gif zip cat dog sad i a"
    )
)
SPELLED = frozenset(_words("AI CEO CIA DNA EU FBI IBM IRS NYC UFO UK UN USA"))  # even between words in capitals
PARTS = frozenset(_words("Chapter War Part Act Volume Section Book Scene Phase Type Level"))  # "Part V": five
KINGS = frozenset(_words("Charles George Henry Louis Edward Pius Leo"))  # "Henry V": the fifth
