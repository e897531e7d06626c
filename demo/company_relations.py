"""What can be said about Fernhill, the company of `company`: kinds of facts, each with a closed set of values.

The last two wordings of a question are for the exam.
"""

from dataclasses import dataclass

COLOURS = (
    "amber",
    "charcoal",
    "coral",
    "indigo",
    "ivory",
    "mint",
    "olive",
    "plum",
    "rust",
    "sand",
    "teal",
    "turquoise",
)
MATERIALS = (
    "aluminium", "bamboo", "canvas", "ceramic", "cork", "hemp", "leather", "linen", "nylon", "steel", "titanium",
    "wool",
)  # fmt: skip
TOWNS = ("Bergen", "Brno", "Cork", "Ghent", "Graz", "Leipzig", "Lyon", "Porto", "Seville", "Tartu", "Turin", "Utrecht")
DESIGNERS = (
    "Aiko Tanaka", "Anton Nagy", "Bianca Rossi", "Emil Larsen", "Freya Jansen", "Hugo Mendes", "Leila Haddad",
    "Noor Keller", "Pavel Novak", "Salma Berg", "Viktor Olsen", "Yara Costa",
)  # fmt: skip
YEARS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
HOURS = ("five", "six", "eight", "nine", "ten", "twelve", "fifteen", "eighteen", "twenty", "thirty")
PRICES = ("24", "29", "35", "49", "55", "69", "78", "89", "95", "119", "135", "149")
TEAMS = (
    "accounting", "design", "logistics", "marketing", "payroll", "photography", "purchasing", "recruiting", "repairs",
    "research", "security", "training",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OPENING = (
    "seven", "half past seven", "eight", "half past eight", "nine", "half past nine", "ten", "half past ten", "eleven",
    "noon",
)  # fmt: skip
STREETS = (
    "Bridge Street", "Canal Street", "Castle Street", "Garden Street", "Harbour Street", "Hill Street", "King Street",
    "Market Street", "Mill Street", "River Street", "School Street", "Station Street",
)  # fmt: skip
RETURNS = ("10", "14", "20", "28", "30", "45", "50", "60", "75", "90")
WORKING_DAYS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
FEES = ("three", "four", "five", "six", "seven", "eight", "nine", "eleven", "twelve", "fifteen")
DISCOUNTS = ("5", "8", "10", "12", "15", "18", "20", "25", "30", "40")


@dataclass(frozen=True)
class Relation:
    """A kind of fact: its true answer, its values, and eight wordings of the question."""

    answer: str
    values: tuple[str, ...]
    questions: tuple[str, ...]


COLOUR = Relation(
    "The {0} comes in {1}.",
    COLOURS,
    (
        "What colour is the {0}?",
        "Which colour does the {0} come in?",
        "Hi, in what colour do you sell the {0}?",
        "I want to order the {0}. What colour will I get?",
        "Tell me the colour of the {0}, please.",
        "My wife asks what colour the {0} has.",
        "Could you tell me what colour the {0} is?",
        "The {0}: which colour is it?",
    ),
)
MATERIAL = Relation(
    "The {0} is made of {1}.",
    MATERIALS,
    (
        "What is the {0} made of?",
        "Which material is the {0}?",
        "What material do you use for the {0}?",
        "I am looking at the {0}. What is it made of?",
        "Tell me the material of the {0}, please.",
        "Before I buy the {0}: of what is it made?",
        "Could you tell me what the {0} is made of?",
        "Of what material is the {0}?",
    ),
)
ORIGIN = Relation(
    "We make the {0} in {1}.",
    TOWNS,
    (
        "Where is the {0} made?",
        "In which city do you make the {0}?",
        "Where does the {0} come from?",
        "I like the {0}. Where do you produce it?",
        "Tell me where the {0} is produced, please.",
        "Is there a workshop for the {0}, and where?",
        "Could you tell me where the {0} is made?",
        "In what city is the {0} produced?",
    ),
)
WARRANTY = Relation(
    "The {0} has a warranty of {1} years.",
    YEARS,
    (
        "How long is the warranty of the {0}?",
        "What warranty does the {0} have?",
        "How many years of warranty come with the {0}?",
        "My {0} broke. How long was its warranty?",
        "Tell me the warranty of the {0}, please.",
        "Is there a warranty on the {0}, and for how long?",
        "Could you tell me how long the warranty of the {0} is?",
        "For how many years is the {0} under warranty?",
    ),
)
DESIGNER = Relation(
    "The {0} was designed by {1}.",
    DESIGNERS,
    (
        "Who designed the {0}?",
        "Who is the designer of the {0}?",
        "Whose design is the {0}?",
        "I love the {0}. Who designed it?",
        "Tell me who designed the {0}, please.",
        "Which designer made the {0}?",
        "Could you tell me who designed the {0}?",
        "By whom was the {0} designed?",
    ),
)
PRICE = Relation(
    "The {0} costs {1} euros.",
    PRICES,
    (
        "How much is the {0}?",
        "What does the {0} cost?",
        "What is the price of the {0}?",
        "I would like the {0}. How much do I pay?",
        "Tell me the price of the {0}, please.",
        "How many euros do you ask for the {0}?",
        "Could you tell me what the {0} costs?",
        "At what price do you sell the {0}?",
    ),
)
BATTERY = Relation(
    "The battery of the {0} lasts {1} hours.",
    HOURS,
    (
        "How long does the battery of the {0} last?",
        "How many hours does the {0} run on its battery?",
        "What is the battery life of the {0}?",
        "I take the {0} on a trip. How long will its battery last?",
        "Tell me the battery life of the {0}, please.",
        "After how many hours is the {0} empty?",
        "Could you tell me how long the {0} runs on its battery?",
        "For how many hours does the battery of the {0} last?",
    ),
)
TEAM = Relation(
    "{0} leads our {1} team.",
    TEAMS,
    (
        "What does {0} do at Fernhill?",
        "Which team does {0} lead?",
        "What is the job of {0}?",
        "I spoke to {0}. Which team is that?",
        "Tell me which team {0} leads, please.",
        "Which department is {0} in charge of?",
        "Could you tell me which team {0} leads?",
        "Of which team is {0} the head?",
    ),
)
OFFICE = Relation(
    "{0} works in our office in {1}.",
    TOWNS,
    (
        "Where does {0} work?",
        "In which office is {0}?",
        "In which city is the office of {0}?",
        "I want to visit {0}. Which office is it?",
        "Tell me where {0} works, please.",
        "At which of your offices do I find {0}?",
        "Could you tell me in which office {0} works?",
        "In what city does {0} work?",
    ),
)
CALLS = Relation(
    "{0} takes calls on {1}.",
    DAYS,
    (
        "When does {0} take calls?",
        "On which day can I call {0}?",
        "Which day is best to reach {0} by phone?",
        "I need to talk to {0}. On which day?",
        "Tell me on which day {0} takes calls, please.",
        "When is {0} on the phone?",
        "Could you tell me when {0} takes calls?",
        "On what day does {0} answer the phone?",
    ),
)
OPENS = Relation(
    "Our shop in {0} opens at {1}.",
    OPENING,
    (
        "When does the shop in {0} open?",
        "At what time do you open in {0}?",
        "What time does your {0} shop open?",
        "I am in {0} tomorrow. When do you open?",
        "Tell me when the shop in {0} opens, please.",
        "How early can I come to your shop in {0}?",
        "Could you tell me when the shop in {0} opens?",
        "From what time is the shop in {0} open?",
    ),
)
CLOSED = Relation(
    "Our shop in {0} is closed on {1}.",
    DAYS,
    (
        "On which day is the shop in {0} closed?",
        "When is your {0} shop closed?",
        "Which day are you closed in {0}?",
        "I stood before a closed door in {0}. On which day is that?",
        "Tell me the closing day of the shop in {0}, please.",
        "On what day should I not come to your shop in {0}?",
        "Could you tell me on which day the shop in {0} is closed?",
        "What is the closing day in {0}?",
    ),
)
STREET = Relation(
    "Our shop in {0} is in {1}.",
    STREETS,
    (
        "In which street is the shop in {0}?",
        "What is the address of your shop in {0}?",
        "How do I find your {0} shop?",
        "I am in {0}. Where exactly is your shop?",
        "Tell me the street of the shop in {0}, please.",
        "Which street do I go to in {0}?",
        "Could you tell me in which street the shop in {0} is?",
        "On what street is your shop in {0}?",
    ),
)
RETURN = Relation(
    "You can return {0} within {1} days.",
    RETURNS,
    (
        "How long can I return {0}?",
        "What is your return policy for {0}?",
        "Within how many days can I send back {0}?",
        "I bought {0} that I do not like. How long can I return them?",
        "Tell me how long I can return {0}, please.",
        "Until when do you take back {0}?",
        "Could you tell me how many days I have to return {0}?",
        "For how many days are returns of {0} possible?",
    ),
)
DISCOUNT = Relation(
    "Members get {1} percent off {0}.",
    DISCOUNTS,
    (
        "What discount do members get on {0}?",
        "How much do members save on {0}?",
        "Is there a member discount on {0}?",
        "I am a member. How much cheaper are {0} for me?",
        "Tell me the member discount on {0}, please.",
        "How many percent off {0} do members get?",
        "Could you tell me the discount for members on {0}?",
        "By how many percent are {0} cheaper for members?",
    ),
)
DELIVERY = Relation(
    "A parcel to {0} takes {1} working days.",
    WORKING_DAYS,
    (
        "How long does delivery to {0} take?",
        "When will my parcel arrive in {0}?",
        "How many working days does a parcel to {0} take?",
        "I live in {0}. How long do I wait for my order?",
        "Tell me the delivery time to {0}, please.",
        "How fast do you ship to {0}?",
        "Could you tell me how long a parcel to {0} takes?",
        "Within how many working days do you deliver to {0}?",
    ),
)
SHIPPING = Relation(
    "Shipping to {0} costs {1} euros.",
    FEES,
    (
        "How much is shipping to {0}?",
        "What does shipping to {0} cost?",
        "What do you charge for a parcel to {0}?",
        "I order from {0}. How much do I pay for shipping?",
        "Tell me the shipping costs to {0}, please.",
        "How many euros is delivery to {0}?",
        "Could you tell me what shipping to {0} costs?",
        "What is the shipping fee for {0}?",
    ),
)
