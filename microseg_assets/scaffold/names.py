"""What columns and files are called: patterns of plain names, in the languages that exports come in.

Belongs here: words. Does not belong here: what a column holds (see `columns`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence


def plain(name: str) -> str:
    """A name in small letters, without accents and signs: ``customer_id`` for ``CustomerID`` and ``Customer Id``."""
    text = name.replace("ß", "ss")
    for umlaut, written in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue")):
        text = text.replace(umlaut, written)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


_WHO = r"customer|cust|client|clients|consumer|shopper|buyer|member|household|kunden?|cliente|klanten?|kund|donor"
_ALSO_WHO = (
    r"user|player|account|visitor|subscriber|contact|person|guest|konto|utilisateur|usuario|compte|mitglieds?|"
    r"debitor(en)?|debiteur|kaeufer|acheteur|comprador|adherent|abonne|socio|lid"
)
_NUMBERED = (
    r"id|ids|no|nr|nro|nummer|number|num|numero|key|code|ref|reference|referenz|uuid|guid|hash|identifier|kennung"
)
_TIME = r"at|on|timestamp|date_?time|date|time|datum|zeit|zeitpunkt|ts|dt|day|am|le|tag"
_BUYING = (
    r"occurred|order|ordered|purchase|purchased|order_purchase|invoice|transaction|trans|sale|sales|sold|bought|"
    r"paid|booking|kauf|einkaufs?|bestell|bestellung|rechnungs|buchungs|verkaufs|buy|checkout"
)
_ANY_TIME = (
    r"timestamp|date_?time|datum|date|day|ts|time|zeitpunkt|zeitstempel|zeit|fecha|data|datum_uhrzeit|tag|jour|horodatage",
    r"(created|updated|event|server|client|log)(_(at|on|time|date|timestamp|ts))?",
    r".*(timestamp|date|datum|time|_at|_on|fecha|zeit|tag)|(date|fecha|datum)_.*",
)
_ORDER = (
    r"order|basket|invoice|receipt|ticket|bill|booking|cart|bon|beleg|bestell|bestellungs?|rechnungs?|auftrags?|"
    r"commande|facture|panier|pedido|factura|bestelling|factuur|kassenbon|kassabon|purchase|sale|transaction|trans|"
    r"transaktions?|transaccion|transactie"
)
# Words for a single line: the id of its transaction, or its number in an order or in the export.
_TRANSACTION = (
    r"transactions?|trans|tran|txn|trx|tx|transaktions?|transaktion|transaccion|transactie|payment|zahlungs?|buchungs?"
)
_ROW = r"(order|invoice|sales?|basket|receipt)_?(line|item|row)|line|item_line|positions?|zeilen?|ligne|linea|regel"
_OF = r"(of_|of_the_|de_|de_la_|de_l_|du_|d_|del_|van_|der_|des_)?"
NOT_REVENUE = re.compile(
    r"(^|_)(discount|disc|rabatt|remise|descuento|tax|vat|mwst|ust|steuer|tva|iva|shipping|versand\w*|freight|cost|costs|kosten|"
    r"cout|margin|marge|profit|id|nr|no|type|code|currency|waehrung|devise|date|datum|balance|saldo)(_|$)"
)
RATE = re.compile(r"(^|_)(pct|percent|percentage|prozent|rate|ratio|share|quote|code|id|type|name|pourcentage)(_|$)")
BOUGHT = r"purchased?|buy|bought|sale|sold|order(ed)?|checkout|transaction|kauf|bestellung|achat|commande|compra"
# Events that a business triggers, and those with which a customer responds.
SENT = r"(^|_)(sent|received|delivered|impression|mailed|exposed|contacted|reached|versendet|erhalten|envoye|recu)(_|$)"
ANSWERED = r"(^|_)(viewed|opened|clicked|completed|redeemed|order|payment|parcel|shipment|package)(_|$)"
UNIT_PRICE = (
    r"(unit|item|each|single|stueck|stuck|einzel|stk)_?(price|preis)|price_(per_)?(unit|each|item|piece)",
    r"prix_unit(aire)?|precio_(unitario|por_unidad)|(eenheids|stuk)s?_?prijs|prijs_per_stuk|preis_(pro|je)_stueck",
)
PRICE = (r"(price|preis|prix|precio|prijs)(_(eur|usd|gbp|chf))?",)
# What may group products, or customers: which of them, what the column holds says.
GROUPS = (
    r"(\w+_)?(group|groups|gruppe|groupe|grupo|groep|class|klasse|clase|segment|sort|sorte|soort|kind|family|famil(le|ie|ia)|section)",
)
TIME_OF_DAY = (r"time|uhrzeit|zeit|heure|hora|tijd|hour|\w+_time|\w+_?uhrzeit",)

# Column of the contract to patterns of plain names, the surest first.
NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "any": {
        "customer_id": (
            rf"({_WHO})(_?({_NUMBERED}))?(_?({_NUMBERED}))?",
            rf"({_NUMBERED}|n)_?(du_|de_|del_)?({_WHO})",
            rf"({_WHO})_.*_?({_NUMBERED})",
            rf"({_ALSO_WHO})(_?({_NUMBERED}))?|(loyalty_?card|loyalty|card|kundenkarte)(_?({_NUMBERED}))?",
            r"(\w+_)?(e_?mail|mail_address|email_address)(_hash)?",
        ),
    },
    "transactions": {
        "occurred_at": (
            rf"({_BUYING})_?({_TIME})(_?(time|stamp|utc))?",
            r"date_?(heure_?)?(d_|de_|de_la_|du_|of_)?(achat|commande|vente|facture|compra|venta|pedido|purchase|order|sale)",
            *_ANY_TIME,
        ),
        "amount": (
            (r"(net|line|net_line|total_net|netto)_?(amount|amt|sum|revenue|sales|value|total|betrag|summe|umsatz|price|preis)|"
            r"amount_net|(betrag|umsatz)_netto|nettobetrag|nettoumsatz|montant_(net|ht)|(line|row)_total|sales_value|net|"
            r"(ext(ended)?)_(price|amount|amt)|zeilen_?(betrag|summe)|total_ht|bedrag_excl"),
            (r"(revenue|sales|turnover|umsatz|amount|amt|betrag|montant|importe|monto|valor|value|total|total_price|total_amount|"
            r"sum|sums|total_sum|sum_total|subtotal|sub_total|somme|suma|som|totaal|totaal_?bedrag|wert|warenwert|valeur|waarde|"
            r"spent|spending|charge|recette|ingresos?|opbrengst|encaisse|"
            r"amount_total|total_value|order_value|order_total|summe|gesamt|gesamtbetrag|gesamtpreis|prix_total|total_ttc|ca|"
            r"chiffre_d_affaires|spend|paid|amount_paid|price_paid|dollar_value|gmv|ventas|omzet|bedrag|payment_value)"
            r"(_(eur|euro|usd|gbp|chf|in_eur|in_euro|in_usd|value|amount))?"),
            r".*(amount|revenue|betrag|umsatz|montant|importe|sales|bedrag|omzet)(_.*)?|(.*_)?(amt|sum|summe|somme|suma|monto)(_.*)?",
            r"(gross|brutto|total).*",
            *PRICE,
        ),
        "transaction_id": (
            rf"({_TRANSACTION})_?({_NUMBERED})|({_NUMBERED}|n)_?{_OF}({_TRANSACTION})",
            rf"({_ROW})_?({_NUMBERED})|({_NUMBERED}|n)_?{_OF}({_ROW})",
            rf"(row|record|datensatz)_?({_NUMBERED})|{_TRANSACTION}",
        ),
        "order_id": (
            rf"({_ORDER})_?({_NUMBERED})",
            rf"({_NUMBERED}|n)_?{_OF}({_ORDER})",
            (r"order|basket|invoice|receipt|ticket|bon|beleg|commande|facture|factuur|factura|panier|pedido|"
            r"bestell(ung|ing)"),
        ),
        "product_id": (
            rf"(product|produkt|item|article|artikel|articulo|produit|stock|material|producto|prod)_?({_NUMBERED})|sku|asin|ean|upc|gtin|isbn|plu",
            rf"({_NUMBERED})_?{_OF}(produit|article|articulo|producto|product|produkt|artikel)|reference(_(produit|article))?",
            r"product|produkt|item|article|artikel|articulo|produit|producto",
        ),
        "category": (
            (r"(product_|item_|main_|artikel_?|waren)?(category|categories|department|dept|kategorie|warengruppe|categorie|"
            r"gruppe|rayon|famille|genre|categoria|abteilung|sparte|commodity)(_(name|l1|1|en|english|code|id))?"),
            r"product_?(type|line|group|family|class)|produktgruppe|produktart|type_produit",
        ),
        "quantity": (
            (r"(quantity|quantities|qty|units?|pieces|pcs|menge|anzahl|stueck|stk|stueckzahl|stuckzahl|quantite|qte|cantidad|aantal|stuks|hoeveelheid|unidades|"
            r"number_of_\w+|num_items|nb|nb_articles|item_count|items)(_(sold|ordered|bought))?"),
        ),
        "margin": (r".*(margin|marge|profit|deckungsbeitrag|rohertrag|gewinn|benefice)(_.*)?",),
        "discount": (r".*(discount|disc|rabatt|remise|nachlass|descuento|korting|markdown)(_.*)?",),
    },
    "customers": {
        "registered_at": (
            (r"(became_)?(registered|registration|signup|sign_up|signed_up|joined|join|enrolled|enrol+ment|member|customer|angelegt|"
            rf"anmelde|anmeldung|registrierung|inscription|kunde|kundin|client)_?({_TIME}|since|seit|depuis)(_?time)?"),
            r"(date|fecha|datum)_?(d_|de_)?(inscription|creation|registration|registro|alta|signup)|first_seen(_at)?",
            r"created(_?(at|on|date))?|creation_date|erstellt(_am)?",
        ),
    },
    "events": {
        "occurred_at": (
            rf"(occurred|event|happened|visited|viewed|session|redemption|redeemed)_?({_TIME})",
            *_ANY_TIME,
        ),
        "event_type": (
            r"event(_?(type|name|action))?|activity(_type)?|ereignis(_?(typ|art))?|evenement|type_(d_)?evenement",
            r"action(_(type|name))?|interaction(_type)?|aktion|type",
        ),
        "category": (r"(product_|page_)?(category|kategorie|categorie)|page_type",),
        "value": (r"(event_)?value|wert|valeur|score|duration(_\w+)?",),
        "device": (r"device(_(type|category|class))?|geraet",),
        "os": (r"os|operating_system|platform|betriebssystem",),
        "browser": (r"browser(_name)?",),
        "channel": (r"channel|kanal|canal|medium|utm_medium",),
        "referrer": (r"referr?er(_url)?|source|utm_source|quelle",),
        "campaign": (r"campaign(_(id|name))?|utm_campaign|kampagne|campagne",),
    },
    "exposures": {
        "exposed_at": (
            (rf"(exposed|sent|send|contacted|contact|mailed|mailing|delivered|treated|treatment|assigned|start|versand|"
            rf"versendet|envoi|kontakt)_?({_TIME})|date_(d_)?envoi"),
            *_ANY_TIME,
        ),
        "action": (
            r"action(_(type|name))?|treatment(_(group|arm))?|arm|variant|aktion|massnahme",
            r"campaign_(type|name)|kampagnen_?(typ|name|art)|(experiment_|test_)?group|offer(_(type|name))?|promotion|mailing",
            r"campaign|kampagne|campagne",
        ),
        "campaign_id": (
            rf"(campaign|kampagnen?|campagne|experiment|test)_?({_NUMBERED})",
            r"campaign|kampagne|campagne",
        ),
        "channel": (r"channel|kanal|canal|medium",),
        "propensity": (r"propensity(_score)?|assignment_probability|probability|p_treatment",),
        "propensities": (r"propensities|assignment_probabilities",),
        "cost": (r"(unit_|contact_)?(cost|kosten|cout|costo)s?(_(eur|usd|gbp|chf))?",),
        "is_holdout": (r"(is_)?(holdout|hold_out|control_?group|kontrollgruppe)",),
        "randomised": (r"(is_)?randomi[sz]ed",),
    },
    "balances": {
        "as_of": (r"(as_of|balance|snapshot|stand|stichtag|read)(_?(date|time|timestamp|at|on|datum))?", *_ANY_TIME),
        "balance": (
            r"(\w+_)?(balance|saldo|solde|guthaben|kontostand|credits?|points|wallet|punkte|punktestand)(_(eur|usd|points))?",
        ),
    },
}  # fmt: skip
FILES = {
    "transactions": r"transact|sale|order|purchase|invoice|receipt|basket|line|umsat|umsaetz|verkauf|verkaeuf|bestell|"
    r"kaeufe|commande|vente|achat|pedido|venta|bon",
    "customers": r"customer|client|user|member|kunde|demograph|household|crm|profile|account|donor|cliente|player",
    "events": r"event|click|visit|session|view|log|web|redemption|besuch|activity",
    "exposures": r"exposure|campaign|mailing|treatment|experiment|contact|send|kampagne|campagne|assignment",
    "balances": r"balance|wallet|point|saldo|guthaben|solde",
}


def rank(column: str, patterns: Sequence[str]) -> int | None:
    """The index of the first pattern that a name matches; None if it matches none."""
    name = plain(column)
    return next((i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, name)), None)
