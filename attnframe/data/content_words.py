"""The content words of the grammar: English words with their French translations, typed so that nothing absurd is said.

Nouns carry semantic traits; adjectives and verbs name the traits of the nouns that they go with. Each English word has
one translation in each construction. What English leaves open is fixed: "friend" is masculine. No French noun here
begins with an aspirated h, so an h counts as a vowel.
"""

from __future__ import annotations

from functools import cache

from attnframe.data.word_classes import Adjective, Adverb, Noun, Traits, read_adjective, read_noun, read_verb

# english[/plural] french[/plural] gender kind traits
NOUN_TABLE = """
man/men homme m person grown handsome
woman/women femme f person grown handsome
boy garçon m person handsome
girl fille f person handsome
child/children enfant m person own handsome
king roi m person grown handsome
queen reine f person grown handsome
friend ami m person grown kin
brother frère m person grown kin
sister sœur f person grown kin
uncle oncle m person grown kin
aunt tante f person grown kin
doctor médecin m person grown famous
nurse infirmière f person grown
actor acteur m person grown famous handsome
actress actrice f person grown famous handsome
dog chien m animal own clever
cat chat m animal own clever
horse cheval/chevaux m animal own clever
bird oiseau m animal
cow vache f animal
mouse/mice souris f animal
rabbit lapin m animal own
bear ours m animal
squirrel écureuil m animal
swallow hirondelle f animal
apple pomme f fruit red round
pear poire f fruit
cherry cerise f fruit red
apricot abricot m fruit
pineapple ananas m fruit
cake gâteau m food round sweet
egg œuf m food round
onion oignon m food round
soup soupe f food hot
oyster huître f food
coffee café m drink hot
beer bière f drink
lemonade limonade f drink sweet
book livre m text heavy written printed
letter lettre f text long written printed
story histoire f tale text long written heard
newspaper journal/journaux m text printed
hat chapeau m clothing round
dress robe f clothing long
coat manteau m clothing long heavy
scarf/scarves écharpe f clothing long
key clé f thing
box boîte f thing coloured round heavy opens hollow container
cup tasse f thing coloured fragile hollow
clock horloge f thing round fragile
umbrella parapluie m thing coloured fragile
lamp lampe f thing coloured fragile
bag sac m thing coloured heavy opens hollow container
tool outil m thing heavy
picture image f thing painted
table table f furniture round heavy support shelter
chair chaise f furniture fragile support shelter
cupboard armoire f furniture heavy opens hollow
car voiture f vehicle
boat bateau m vehicle
plane avion m vehicle
tree arbre m plant landmark shelter
flower fleur f plant coloured portable
house maison f building own indoors coloured
school école f building own venue at
church église f building indoors
hotel hôtel m building venue at
hospital hôpital/hôpitaux m building venue at
museum musée m building venue at famous
castle château m building indoors famous
station gare f building venue at
factory usine f building venue at
market marché m place venue shop at
shop magasin m building shop
garden jardin m place own outdoors quiet
street rue f place outdoors quiet long
forest forêt f place outdoors quiet
village village m place outdoors quiet
island île f place quiet
"""

# "old" goes with `grown` persons and "beautiful" with `handsome` ones, because "vieille fille" and "beau frère" mean
# other things.
# english masculine/feminine[/before a vowel] position traits; `attributive`: before the noun and never after "is"
ADJECTIVE_TABLE = """
big grand/grande before animal building place vehicle furniture
small petit/petite before animal building place vehicle furniture thing
beautiful beau/belle/bel before handsome animal clothing building place plant
pretty joli/jolie before clothing thing place plant
new nouveau/nouvelle/nouvel attributive text clothing thing vehicle furniture building
old vieux/vieille/vieil before grown animal text clothing thing vehicle furniture building plant
young jeune/jeune before person animal
good bon/bonne before food drink text
bad mauvais/mauvaise before food drink text
fat gros/grosse before animal
long long/longue before long
red rouge/rouge after coloured red
blue bleu/bleue after coloured
white blanc/blanche after coloured animal
black noir/noire after clothing vehicle animal
green vert/verte after coloured fruit
grey gris/grise after clothing vehicle animal building
round rond/ronde after round
heavy lourd/lourde after heavy furniture
expensive cher/chère after clothing vehicle furniture food
dirty sale/sale after clothing vehicle furniture
empty vide/vide after hollow building
broken cassé/cassée after fragile
cold froid/froide after drink hot
hot chaud/chaude after hot
sweet sucré/sucrée after fruit sweet
ripe mûr/mûre after fruit
happy heureux/heureuse after person
sad triste/triste after person
tired fatigué/fatiguée after animate
sick malade/malade after animate
famous célèbre/célèbre after famous
clever intelligent/intelligente after person clever
quiet calme/calme after quiet
"""

# english[+particle] past | French present | participle[*: with être] | objects of a person [; of an animal] | places
# [/ uses]; "-" as objects of an animal: an animal may be the subject of this verb without object
TRANSITIVE_TABLE = """
see saw | vois voit voyons voyez voient | vu | animate portable building plant vehicle; animate | anywhere / habit where
find found | trouve trouve trouvons trouvez trouvent | trouvé | animal portable; fruit | anywhere / where
look+for looked | cherche cherche cherchons cherchez cherchent | cherché | animate portable; fruit | anywhere / where
look+at looked | regarde regarde regardons regardez regardent | regardé | animate printed painted; animate | / habit
hear heard | entends entend entendons entendez entendent | entendu | animate heard; animate | anywhere / habit
follow followed | suis suit suivons suivez suivent | suivi | animate; animate | outdoors
help helped | aide aide aidons aidez aident | aidé | person | anywhere / habit
wait+for waited | attends attend attendons attendez attendent | attendu | person | anywhere / habit
invite invited | invite invite invitons invitez invitent | invité | person | / habit
call called | appelle appelle appelons appelez appellent | appelé | person | / habit
admire admired | admire admire admirons admirez admirent | admiré | person building clothing plant | / habit where
eat ate | mange mange mangeons mangez mangent | mangé | food; fruit | anywhere / habit with where
drink drank | bois boit buvons buvez boivent | bu | drink | anywhere / habit with
buy bought | achète achète achetons achetez achètent | acheté | portable vehicle furniture | shop / for
wash washed | lave lave lavons lavez lavent | lavé | clothing vehicle fruit | outdoors / habit
open opened | ouvre ouvre ouvrons ouvrez ouvrent | ouvert | opens | / for where
break broke | casse casse cassons cassez cassent | cassé | fragile | indoors / where
lose lost | perds perd perdons perdez perdent | perdu | thing clothing printed | anywhere
choose chose | choisis choisit choisissons choisissez choisissent | choisi | portable vehicle furniture | shop / for
paint painted | peins peint peignons peignez peignent | peint | building furniture plant | / for where
write wrote | écris écrit écrivons écrivez écrivent | écrit | written | indoors venue / for with
wear wore | porte porte portons portez portent | porté | clothing | outdoors / habit
"""

DITRANSITIVE_TABLE = """
give gave | donne donne donnons donnez donnent | donné | text clothing thing fruit | outdoors venue
show showed | montre montre montrons montrez montrent | montré | animal portable vehicle building | outdoors
sell sold | vends vend vendons vendez vendent | vendu | portable vehicle furniture | shop
send sent | envoie envoie envoyons envoyez envoient | envoyé | text clothing thing |
lend lent | prête prête prêtons prêtez prêtent | prêté | text clothing thing vehicle |
"""

INTRANSITIVE_TABLE = """
sleep slept | dors dort dormons dormez dorment | dormi | ; - | anywhere / habit manner
sing sang | chante chante chantons chantez chantent | chanté | | anywhere / habit manner with
dance danced | danse danse dansons dansez dansent | dansé | | anywhere / habit manner with
work worked | travaille travaille travaillons travaillez travaillent | travaillé | | anywhere / habit manner with
play played | joue joue jouons jouez jouent | joué | ; - | outdoors landmark / habit manner with
run ran | cours court courons courez courent | couru | ; - | outdoors / habit
laugh laughed | ris rit rions riez rient | ri | | anywhere / habit with
arrive arrived | arrive arrive arrivons arrivez arrivent | arrivé* | | venue / with
leave left | pars part partons partez partent | parti* | | / with
fall fell | tombe tombe tombons tombez tombent | tombé* | ; - | outdoors landmark
"""

MOTION_TABLE = "go went | vais va allons allez vont | allé* | | / habit"

FREQUENCY = (
    Adverb("often", "souvent", "before_verb", "after_finite"),
    Adverb("always", "toujours", "before_verb", "after_finite"),
)
RARITY = (  # never with a negation
    Adverb("sometimes", "parfois", "before_verb", "after_finite"),
    Adverb("rarely", "rarement", "before_verb", "after_finite"),
)
MANNER = (
    Adverb("well", "bien", "after_verb", "after_finite"),
    Adverb("badly", "mal", "after_verb", "after_finite"),
    Adverb("quietly", "tranquillement", "after_verb", "after_participle"),
)
TODAY = Adverb("today", "aujourd'hui", "last", "last")
NOW = Adverb("now", "maintenant", "last", "last")
YESTERDAY = Adverb("yesterday", "hier", "last", "last")


def _rows(table: str) -> list[str]:
    return table.strip().splitlines()


NOUNS = tuple(read_noun(row) for row in _rows(NOUN_TABLE))
ADJECTIVES = tuple(read_adjective(row) for row in _rows(ADJECTIVE_TABLE))
TRANSITIVE = tuple(read_verb(row) for row in _rows(TRANSITIVE_TABLE))
DITRANSITIVE = tuple(read_verb(row) for row in _rows(DITRANSITIVE_TABLE))
INTRANSITIVE = tuple(read_verb(row) for row in _rows(INTRANSITIVE_TABLE))
GO = read_verb(MOTION_TABLE)
VERBS = (*TRANSITIVE, *DITRANSITIVE, *INTRANSITIVE, GO)


@cache
def nouns_with(traits: Traits) -> tuple[Noun, ...]:
    """Every noun that has at least one of the traits, in the order of the table."""
    return tuple(noun for noun in NOUNS if noun.traits & traits)


@cache
def adjectives_for(noun: Noun) -> tuple[Adjective, ...]:
    """Every adjective that may be said of the noun, in the order of the table."""
    return tuple(adjective for adjective in ADJECTIVES if adjective.traits & noun.traits)
