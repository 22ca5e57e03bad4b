"""The words in which publishers state a licence: a closed list of phrases, and what each phrase says.

A phrase says one letter per part of a licence:

C  Creative Commons       B  the code "by"       A  the title "Attribution"
N  non-commercial         D  no derivatives      S  share alike
Z  CC0                    P  Public Domain Mark  U  public domain
W  international, ...     J  a country           L  the word "licence"    F  "this work is licensed under a"
R  all rights reserved    ?  some rights reserved, which does not say which

`licenses` reads texts with it. Phrases are written as it compares them (`fold`, then blanks left out), so the table may
keep capitals, accents and blanks.
"""

import re
import unicodedata

_ACCENTS = re.compile(r"[\u0300-\u0333\u3099\u309a]")  # without the overlays that strike a letter out

# The official titles, a language a line: attribution, non-commercial, no derivatives, share alike; "/" parts spellings.
_TITLES = """
Attribution | NonCommercial | NoDerivatives/NoDerivs/No Derivative Works/No Derivative | ShareAlike
Atribución/Reconocimiento | NoComercial/Uso no comercial | SinDerivadas/SinDerivar/SinObraDerivada/Sin Obras Derivadas \
| CompartirIgual/Licenciar igual
Reconeixement/Atribució | NoComercial | SenseObraDerivada/SenseDerivades/Sense Obres Derivades | CompartirIgual
Recoñecemento | NonComercial | SenObraDerivada/SenDerivadas | CompartirIgual
Aitortu | EzKomertziala | LanEratorririkGabe | PartekatuBerdin
Attribution/Paternité | Pas d'Utilisation Commerciale/Utilisation Non Commerciale/Non Commerciale/Non Commercial \
| Pas de Modification/Pas de Modifications/Pas d'Œuvre Dérivée \
| Partage dans les Mêmes Conditions/Partage à l'Identique/Partage des Conditions Initiales à l'Identique
Namensnennung | Nicht kommerziell/Keine kommerzielle Nutzung/Nicht-kommerzielle Nutzung \
| Keine Bearbeitung/Keine Bearbeitungen | Weitergabe unter gleichen Bedingungen
Atribuição | NãoComercial/Uso Não Comercial \
| SemDerivações/SemDerivados/Sem Derivadas/Proibição de Realização de Obras Derivadas\
/Vedada a Criação de Obras Derivadas | CompartilhaIgual/PartilhaIgual/Compartilhamento pela mesma Licença\
/Partilha nos Termos da Mesma Licença/Partilha nas Mesmas Condições
Attribuzione | Non commerciale | Non opere derivate/No opere derivate | Condividi allo stesso modo
Naamsvermelding | NietCommercieel | GeenAfgeleideWerken | GelijkDelen
Uznanie autorstwa | Użycie niekomercyjne | Bez utworów zależnych | Na tych samych warunkach
Erkännande | IckeKommersiell | IngaBearbetningar | DelaLika
Navngivelse/Kreditering | IkkeKommerciel | IngenBearbejdelse/IngenBearbejdelser | DelPåSammeVilkår
Navngivelse/Namngjeving | IkkeKommersiell/Ikkje-kommersiell \
| IngenBearbeidelse/IngenBearbeidelser/Ingen bearbeiding | DelPåSammeVilkår/Del på same vilkår
Nimeä | EiKaupallinen | EiMuutoksia/Ei muutettuja teoksia | JaaSamoin
Uveďte původ/Uveďte autora | Neužívejte komerčně/Neužívejte dílo komerčně/Nevyužívejte dílo komerčně \
| Nezpracovávejte/Nezasahujte do díla | Zachovejte licenci
Uveďte autora/Uveďte pôvod | Nepoužívajte komerčne/Nekomerčné použitie | Nespracovávajte/Žiadne odvodeniny \
| Zachovajte licenciu/Rovnaké šírenie
С указанием авторства/Атрибуция/Указание авторства | Некоммерческая/Некоммерческое использование/Некоммерчески \
| Без производных/Без производных произведений \
| С сохранением условий/На тех же условиях/Распространение на тех же условиях
Із зазначенням авторства | Некомерційна | Без похідних/Без похідних творів | Поширення на тих самих умовах
表示 | 非営利 | 改変禁止 | 継承
署名 | 非商业性使用/非商业性/非商业使用 | 禁止演绎 | 相同方式共享
姓名標示 | 非商業性/非商業性使用 | 禁止改作/禁止衍生 | 相同方式分享
저작자표시 | 비영리 | 변경금지 | 동일조건변경허락
Nevezd meg | Ne add el | Ne változtasd | Így add tovább
Atribuire | Necomercial | FărăModificări/Fără Derivate | PartajareÎnCondițiiIdentice/Partajare în Condiții Identice
Αναφορά Δημιουργού/Αναφορά | Μη Εμπορική Χρήση | Όχι Παράγωγα Έργα | Παρόμοια Διανομή
Imenovanje | Nekomercijalno | Bez prerada | Dijeli pod istim uvjetima/Deliti pod istim uslovima
Priznanje avtorstva | Nekomercialno | Brez predelav | Deljenje pod enakimi pogoji
Autorile viitamine | Mitteäriline eesmärk | Tuletatud teoste keeld | Jagamine samadel tingimustel
Atıf | GayriTicari | Türetilemez | AynıLisanslaPaylaş
Atribusi | NonKomersial | TanpaTurunan | BerbagiSerupa
"""

_PHRASES = {
    "C": "CC/Creative Commons/de Creative Commons/Creative Common"
    "/クリエイティブ・コモンズ/知识共享/創用CC/크리에이티브 커먼즈",
    "B": "by",
    "N": "nc/non commercial use/not for commercial use/no commercial use/for non commercial use",
    "D": "nd",
    "S": "sa",
    # Codes without separators.
    "CB": "ccby",
    "CBN": "ccbync",
    "CBD": "ccbynd",
    "CBS": "ccbysa",
    "CBND": "ccbyncnd",
    "CBNS": "ccbyncsa",
    "BN": "bync",
    "BD": "bynd",
    "BS": "bysa",
    "BND": "byncnd",
    "BNS": "byncsa",
    "Z": "CC0/CC zero/Creative Commons Zero/Creative Commons 0/No Rights Reserved",
    "P": "Public Domain Mark/CC PDM/PDM",
    "U": "Public Domain/in the Public Domain/Public Domain Dedication/dedicated to the Public Domain/CC PDDC"
    "/Dominio Público/Domínio Público/Domini Públic/Domaine Public/Gemeinfrei/Pubblico Dominio/Dominio Pubblico"
    "/Publiek Domein/Domena publiczna/パブリック・ドメイン/公有領域/公有领域",
    "W": "International/Internacional/Internationale/Internazionale/Internationaal/Międzynarodowe/Internationell"
    "/Internasjonal/Kansainvälinen/Mezinárodní/Medzinárodná/Международная/Всемирная/Міжнародна/国際/国际/國際/국제"
    "/Nemzetközi/Internațional/Διεθνές/Međunarodna/Mednarodna/Rahvusvaheline/Uluslararası/Internasional/Nazioartekoa"
    "/Unported/No portada/No adaptada/Não Adaptada/Non transposé/nicht portiert/Non portato"
    "/非移植/未移植版本/未本地化版本"
    "/Generic/Genérica/Genérico/Générique/Generico/通用/Universal/Universel/Universell/Universale/Universeel/全世界/通用版",
    "L": "license/licence/licensed/lic/public license/public licence/deed/legal code/version/ver/v"
    "/licencia/licencia pública/llicència/licença/licenza/Lizenz/licentie/licencja/licencji/licens/lisens/lisenssi"
    "/lisenssillä/licencí/лицензия/лицензии/ліцензія/ライセンス/许可协议/许可/授權條款/授權/라이선스/이용허락/licenc/licență/άδεια/lisansı",
    "R": "all rights reserved/all right reserved/all rights are reserved/todos los derechos reservados"
    "/tous droits réservés/alle Rechte vorbehalten/todos os direitos reservados/tutti i diritti riservati"
    "/alle rechten voorbehouden/tots els drets reservats/wszelkie prawa zastrzeżone/alla rättigheter förbehållna"
    "/alla rättigheter reserverade/alle rettigheder forbeholdes/alle rettigheter reservert/все права защищены"
    "/全著作権所有/保留所有权利/版权所有/版權所有",
    "?": "some rights reserved/algunos derechos reservados/certains droits réservés",
    "J": "igo/us/uk/au/nz/ca/de/at/ch/fr/es/pt/br/nl/pl/se/dk/fi/cz/jp/tw/cn/za/ie/gr/lu/be/hr/mx/cl/co/ar/cr/ec"
    "/United States/USA/United Kingdom/UK England Wales/England and Wales/Scotland/Australia/New Zealand/Canada/Germany"
    "/Deutschland/Austria/Österreich/Switzerland/Schweiz/Suisse/France/Spain/España/Espanya/Portugal/Brazil/Brasil"
    "/Netherlands/Nederland/Poland/Polska/Sweden/Sverige/Denmark/Danmark/Norway/Norge/Finland/Suomi"
    "/Czech Republic/Česko/Česká republika/Japan/日本/Taiwan/台灣"
    "/China Mainland/中国大陆/South Africa/Ireland/Greece/Italy"
    "/Italia/Luxembourg/Belgium/Mexico/México/Chile/Colombia/Argentina/Costa Rica/Ecuador",
    "F": "this work is/this image is/this photo is/this photograph is/this media is/this dataset is/these data are"
    "/licensed under/licensed under a/licensed under an/licensed under the/licensed with/licensed with a"
    "/this work is licensed under/this work is licensed under a/this work is licensed under the"
    "/this image is licensed under a/this photograph is licensed under a/this dataset is licensed under a"
    "/available under/available under a/released under/released under a/made available under/under/under a/under the"
    "/under the terms of the/rights as supplied"
    "/To the extent possible under law, the publisher has waived all rights to these data and has dedicated them to the"
    "/Users may copy, modify, distribute and use the work, including for commercial purposes, without restriction"
    "/Esta obra está bajo una licencia/Esta obra está bajo una licencia de/Este obra está bajo una licencia de"
    "/Esta obra está sujeta a la licencia/Esta obra está sujeta a la licencia de/bajo licencia/bajo una licencia"
    "/Aquesta obra està subjecta a una llicència de"
    "/Cette œuvre est mise à disposition selon les termes de la/Cette œuvre est mise à disposition sous"
    "/mis à disposition selon les termes de la/sous/sous licence"
    "/Dieses Werk ist lizenziert unter einer/Dieses Werk ist lizenziert unter/lizenziert unter/unter"
    "/Dieses Werk steht unter einer/Dieses Bild ist lizenziert unter einer"
    "/Este trabalho está licenciado sob uma/Este trabalho está licenciado com uma/Esta obra está licenciada com uma"
    "/Quest'opera è distribuita con/Questo lavoro è distribuito con/Quest'opera è rilasciata sotto/con"
    "/Dit werk valt onder een/Op dit werk is een/van toepassing"
    "/Ten utwór jest dostępny na/Ten utwór jest udostępniony na"
    "/Detta verk är licensierat under en/Dette værk er licenseret under en/Dette verket er lisensiert under en"
    "/Tämä teos on lisensoitu/Toto dílo podléhá/Uvedené dílo podléhá"
    "/Это произведение доступно по/Произведение доступно по"
    "/この作品は/この/の下に提供されています/の下でライセンスされています"
    "/本作品采用/进行许可/本著作係採用",
}


def fold(text: str) -> str:
    """Write a text so that spellings of one word are equal: width, case, accents, characters that are not shown."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("œ", "oe").replace("æ", "ae")
    shown = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", shown)))


def _key(phrase: str) -> str:
    return re.sub(r"[\W_]", "", fold(phrase))


def _table() -> dict[str, str]:
    found = {}
    for letters, phrases in _PHRASES.items():
        found.update({_key(phrase): letters for phrase in phrases.split("/")})
    for line in _TITLES.strip().splitlines():
        for letter, phrases in zip("ANDS", line.split("|"), strict=True):
            found.update({_key(phrase): letter for phrase in phrases.split("/")})
    return found


PHRASES = _table()
