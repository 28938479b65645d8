-- How a key stands; writes nothing. Reply: 0, 0, the time, the words.

return reply(0, 0)
